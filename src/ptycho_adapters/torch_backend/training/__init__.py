"""From a payload and scans to a trained model."""
