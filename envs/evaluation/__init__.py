"""How a network is judged: quantized, pruned, searched, attacked, defended."""
