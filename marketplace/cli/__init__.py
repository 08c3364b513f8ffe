"""The `tracemarket` command."""
