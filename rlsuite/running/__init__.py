"""What runs a training: rollouts, the loop, and what keeps it steady."""
