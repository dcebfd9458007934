"""Networks of few bits: weights become whole numbers times a scale, and so may what layers take in."""
