"""bpcp: a whole image-based screen through CellProfiler, on every core of one machine."""

__version__ = "0.1.0"
