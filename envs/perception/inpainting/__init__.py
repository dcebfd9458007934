"""Pixels that a camera lost, filled in: TSAM, and what it has to beat."""
