"""From a trained model and a scan to the object."""
