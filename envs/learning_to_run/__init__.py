"""Learning to Run: a planar human of nine degrees of freedom and eighteen muscles, the NIPS 2017 challenge's."""
