"""Writes tests/data/shd.h5, 12 made-up samples in SHD's layout: `pip install h5py && python tests/data/shd.py tests/data/shd.h5`."""
import sys

import h5py
import numpy as np

rng = np.random.default_rng(2)
with h5py.File(sys.argv[1], "w") as f:
    times = f.create_dataset("spikes/times", (12,), h5py.vlen_dtype("<f4"))
    units = f.create_dataset("spikes/units", (12,), h5py.vlen_dtype("<u2"))
    for i in range(12):
        n = 30 + i
        times[i], units[i] = np.sort(rng.random(n)).astype("<f4"), rng.integers(0, 700, n)
    f["labels"] = np.arange(12, dtype="<u2")
