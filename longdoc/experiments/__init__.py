"""Settings to run folders, and run folders to comparisons."""
