"""Trained agents that come along: ``evaluate_agent.py pretrained=Humanoid``; agents/pretrained/store.py."""
