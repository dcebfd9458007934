"""Search for the network a policy can afford: spaces, strategies, and what their proposals are worth."""
