"""Small changes of what a network sees, chosen to do the most harm; and signs that a robustness is not real."""
