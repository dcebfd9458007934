"""Examples to learn from: arrays, pictures, clips, optical flow. Real data lies where RLSUITE_DATA says."""
