"""What is done to a network only while it learns, so that it does better on what it has not seen."""
