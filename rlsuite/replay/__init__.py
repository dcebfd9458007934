"""Replay: one ring of transitions; samplers are index functions over it."""
