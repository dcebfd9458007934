"""Objects of a camera's pictures: which pixels are whose, and who is who from frame to frame."""
