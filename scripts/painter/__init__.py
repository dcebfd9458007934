"""Commands about painters and their renderers."""
