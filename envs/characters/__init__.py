"""Written characters: clean glyphs to learn from, and what noise makes of them (arXiv:1806.08990)."""
