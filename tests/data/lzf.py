"""Writes tests/data/lzf.h5, 300 made-up events: `pip install h5py && python tests/data/lzf.py tests/data/lzf.h5`."""
import sys

import h5py
import numpy as np

i = np.arange(300)
events = np.zeros(300, dtype=[("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
events["t"], events["x"], events["y"], events["p"] = i * 10, i % 7, i % 5, i % 2
with h5py.File(sys.argv[1], "w") as f:
    f.create_dataset("events", data=events, chunks=(128,), compression="lzf", shuffle=True)
