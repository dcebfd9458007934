"""What is made of pictures before an agent sees them: cameras' fields, perceivers over them, and the wrapper."""
