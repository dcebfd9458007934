"""What users type: each file is a command, and a module that the installed commands call."""
