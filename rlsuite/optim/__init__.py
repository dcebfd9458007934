"""Optimizers: torch's Adam, fused, with states that need no pickle."""
