"""Counting by density: how many objects a picture shows that cannot be told apart."""
