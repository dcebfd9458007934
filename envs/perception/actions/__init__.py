"""Who does what, where and when in videos of rollouts."""
