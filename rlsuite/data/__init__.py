"""Examples to learn from: arrays, pictures, clips, optical flow, tables. Real data lies where RLSUITE_DATA says."""
