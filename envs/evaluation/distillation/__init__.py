"""Small networks that learn from large ones."""
