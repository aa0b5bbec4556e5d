"""Writes made-up samples in SHD's layout: `pip install h5py && python tests/data/shd.py tests/data`."""
import sys

import h5py
import numpy as np


def write(name, samples, length, labels_first):
    rng = np.random.default_rng(2)
    with h5py.File(f"{sys.argv[1]}/{name}", "w") as f:
        if labels_first:
            f["labels"] = np.arange(samples, dtype="<u2") % 20
        times = f.create_dataset("spikes/times", (samples,), h5py.vlen_dtype("<f4"))
        units = f.create_dataset("spikes/units", (samples,), h5py.vlen_dtype("<u2"))
        for i in range(samples):
            n = length + i
            times[i], units[i] = np.sort(rng.random(n)).astype("<f4"), rng.integers(0, 700, n)
            # A heap grows up to 64 KiB unless something stands behind it.
            if labels_first and i % 10 == 9:
                f.create_dataset(f"other/{i}", data=np.zeros(256))
        if not labels_first:
            f["labels"] = np.arange(samples, dtype="<u2")


def write_one(name):
    """Samples that are all the same long one: their references are copies of the first."""
    path = f"{sys.argv[1]}/{name}"
    with h5py.File(path, "w") as f:
        f["labels"] = np.zeros(8, dtype="<u2")
        sets = [f.create_dataset(f"spikes/{kind}", (8,), h5py.vlen_dtype("<u2")) for kind in ("times", "units")]
        for d in sets:
            d[0] = np.arange(3000, dtype="<u2") % 700
        offsets = [d.id.get_offset() for d in sets]
    with open(path, "r+b") as f:
        for offset in offsets:
            f.seek(offset)
            reference = f.read(16)
            f.seek(offset)
            f.write(8 * reference)


write("shd.h5", 12, 30, False)
# Several heaps of samples, and what is needed to find them before them: some are left where the file is cut off.
write("cut_trains.h5", 40, 40, True)
write_one("one_train.h5")
