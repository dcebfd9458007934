"""Frames between frames: RIFE, and what it has to beat."""
