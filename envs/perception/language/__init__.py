"""Instructions in other languages: translated with the help of a frozen language model, and turned into goals."""
