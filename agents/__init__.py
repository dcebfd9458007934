"""Agents: one file each; a module with act, update and all of its state."""
