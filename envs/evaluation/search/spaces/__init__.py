"""What is searched: spaces of architectures."""
