"""Environments behind one contract: vectorized, on torch tensors, exactly resumable."""
