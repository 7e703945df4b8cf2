"""What ExportToDatabase writes: read, judged, merged, compared."""
