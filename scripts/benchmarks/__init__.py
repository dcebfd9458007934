"""What scripts/benchmark.py can measure: one file each, ours and its peers in the same rounds."""
