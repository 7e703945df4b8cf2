"""What would fail in hours, found in seconds: the pipeline, the image list, the image files."""
