"""What is put before a network so that small changes of its input do less harm."""
