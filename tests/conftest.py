"""Settings every test needs before scipy and torch do any work."""

import os

# scipy reads this once, on import; without it scikit-learn skips its array API checks.
os.environ["SCIPY_ARRAY_API"] = "1"

import torch

# The networks here are too small to gain from threads, sums in a fixed order repeat
# bit for bit, and several test runs can then share a machine.
torch.set_num_threads(1)
