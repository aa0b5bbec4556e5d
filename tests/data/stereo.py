"""Writes made-up events of two cameras, and of one as MATLAB 7.3 stores a table: `pip install h5py && python tests/data/stereo.py tests/data`."""
import sys

import h5py
import numpy as np

i = np.arange(200)
t, x, y, p = i * 10, i % 7, i % 5, i % 2
with h5py.File(sys.argv[1] + "/stereo.h5", "w") as f:
    f["davis/left/events"] = np.stack([x, y, t * 1e-6, 2 * p - 1], axis=1)
    f["davis/left/imu"] = np.zeros((9, 4))
    for name, column in (("ts", t), ("xs", x + 1), ("ys", y), ("ps", p)):
        f["davis/right/events/" + name] = column
with h5py.File(sys.argv[1] + "/table.mat", "w", userblock_size=512) as f:
    f["events"] = np.stack([t, x, y, p + 1]).astype("u2")
