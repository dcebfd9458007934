"""How good predictions are: batched torch, one number an example, each checked against a library or by hand."""
