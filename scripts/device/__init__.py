"""Parts of device_check.py, each run in a process of its own: what one GPU does with the suite."""
