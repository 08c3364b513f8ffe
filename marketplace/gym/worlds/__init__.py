"""Worlds: what a trace acts in, replayed by whoever checks it (see docs/worlds.md)."""
