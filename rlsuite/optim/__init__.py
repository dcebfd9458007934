"""Optimizers beyond what torch ships."""
