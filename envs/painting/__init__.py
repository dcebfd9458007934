"""Painting as a task: canvases, and the pictures to paint."""
