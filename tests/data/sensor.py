"""Writes sensor.h5, 100 events on 37 x 30 pixels with the sensor's size in all the ways in which a file's root says it, each another size:
`pip install h5py && python tests/data/sensor.py tests/data`."""
import sys

import h5py
import numpy as np

i = np.arange(100)
with h5py.File(f"{sys.argv[1]}/sensor.h5", "w") as f:
    for name, values in dict(t=10 * i, x=i % 37, y=i % 30, p=i % 2).items():
        f.create_dataset(f"events/{name}", data=values.astype("i4"))
    f.attrs["geometry"] = "40x31"
    f.attrs["width"], f.attrs["height"] = 41, 32
    f.attrs["sensor_size"] = [42, 33]
    # Height and width, and what could be either.
    f.attrs["sensor_resolution"] = [34, 43]
    f.attrs["either_resolution"] = [50, 44]
