"""DIST: signed distance functions rendered, with gradients for shape and pose (Liu et al. 2020, arXiv:1911.13225)."""
