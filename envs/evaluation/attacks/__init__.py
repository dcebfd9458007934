"""Small changes of what a network sees, chosen to do the most harm; and signs that a measured robustness is not real."""
