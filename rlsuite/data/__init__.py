"""Data as indexable sources: what experiments learn from."""
