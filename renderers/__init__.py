"""Stroke renderers: exact, soft (differentiable by formula) and neural (differentiable by imitation)."""
