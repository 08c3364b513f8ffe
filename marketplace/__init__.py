"""tracemarket: an open market for verified reasoning traces."""

__version__ = "0.1.0"
