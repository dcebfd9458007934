"""Environments of other libraries behind the VectorEnv contract."""
