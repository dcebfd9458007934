"""The stroke recognizer: redraws a noisy or attacked character in a few strokes, and reads it (arXiv:1806.08990)."""
