"""Networks that make examples, taught by others that judge them."""
