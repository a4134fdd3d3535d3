"""Data sets: rendering, building, encoding, loading."""
