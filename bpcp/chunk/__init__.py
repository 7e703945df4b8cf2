"""A chunk at work: when it may start, CellProfiler, what came out of it, and what is cut down."""
