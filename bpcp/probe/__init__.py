"""What works on the CellProfiler in use: each of its modules, run once in each of its modes."""
