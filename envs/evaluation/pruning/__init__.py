"""Whole channels taken out of networks: which hang together, how they are cut, and by what number they are chosen."""
