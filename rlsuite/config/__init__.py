"""From a command line to validated dataclasses, and their help."""
