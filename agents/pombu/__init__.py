"""POMBU: model-based policy optimization with estimated uncertainty (arXiv:1911.12574)."""
