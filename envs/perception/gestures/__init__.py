"""Gestures: sequences of words read out of videos of a signing hand (STMC, arXiv:2002.03187)."""
