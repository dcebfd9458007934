"""Finding objects in pictures: where they are, as boxes, and what they are."""
