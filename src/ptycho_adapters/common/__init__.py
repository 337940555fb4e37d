"""What every backend needs around its network, without any framework."""
