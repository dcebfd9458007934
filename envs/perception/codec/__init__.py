"""Codecs: camera pictures as few bytes, and what is seen when they are decoded again."""
