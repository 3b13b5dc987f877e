"""What all tests share."""

import os

# One thread for each process, before torch is loaded: the networks here are tiny, and several processes run at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
