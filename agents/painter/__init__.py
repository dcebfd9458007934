"""The painter: Learning to Paint (arXiv:1903.04411), model-based DDPG through a differentiable renderer."""
