"""What many runs say together: estimates, intervals, curves."""
