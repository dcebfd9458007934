"""One module a paper, in the form that rlsuite/experiment/frame.py describes; other modules serve several of them."""
