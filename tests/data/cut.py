"""Writes the HDF5 files of 1000 made-up events that tests cut off: `pip install h5py && python tests/data/cut.py tests/data`."""
import sys

import h5py
import numpy as np

rng = np.random.default_rng(1)
n = 1000
t, x, y, p = np.cumsum(rng.integers(0, 90, n)), rng.integers(0, 99, n), rng.integers(0, 77, n), rng.integers(0, 2, n)

# One column after the other, as they are.
with h5py.File(f"{sys.argv[1]}/cut_contiguous.h5", "w") as f:
    for name, v, kind in [("t", t, "<u4"), ("x", x, "<u2"), ("y", y, "u1"), ("p", p, "u1")]:
        f[f"events/{name}"] = v.astype(kind)
# A table in tiles of some rows of two of its columns, deflated.
with h5py.File(f"{sys.argv[1]}/cut_tiles.h5", "w", libver="latest") as f:
    f.create_dataset("events", data=np.stack([t, x, y, p], 1).astype("<u4"), chunks=(150, 2), compression="gzip", shuffle=True)
# Rows behind 512 bytes of something else, as MATLAB 7.3 writes them.
with h5py.File(f"{sys.argv[1]}/cut_rows.mat", "w", userblock_size=512) as f:
    for name, v in [("ts", t), ("x", x), ("y", y), ("pol", p)]:
        f.create_dataset(name, data=v.astype("<f8")[None], chunks=(1, 96), compression="gzip")
# As DSEC has them: other arrays beside the group, whose headers lie behind the events.
with h5py.File(f"{sys.argv[1]}/cut_beside.h5", "w") as f:
    for name, v, kind in [("t", t, "<u4"), ("x", x, "<u2"), ("y", y, "<u2"), ("p", p, "u1")]:
        f.create_dataset(f"events/{name}", data=v.astype(kind), chunks=(250,), compression="gzip")
    f["ms_to_idx"] = np.searchsorted(t, np.arange(0, t[-1], 1000))
    f["t_offset"] = 7
