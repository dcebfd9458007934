"""The ground floor: replay, rollouts, the training loop, checkpoints, networks. Imports no environment and no agent."""
