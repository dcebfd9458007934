"""Photometric stereo: a surface's normals, shape and reflectance from pictures under different lights."""
