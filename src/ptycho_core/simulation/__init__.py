"""Made scans: objects, paths and the experiment."""
