"""Prints tests/data/peers.tsv: what public readers make of the recordings in ../shared/data/formats.

    pip install expelliarmus aedat event_stream h5py scipy numpy
    python tests/data/peers.py ../shared/data/formats > tests/data/peers.tsv

The hash is the sum over the events, numbered from 1, of number * (t * A + x * B + y * C + p * D) modulo 2^64.
"""
import sys
from importlib.metadata import version
from pathlib import Path

import aedat
import event_stream
import h5py
import numpy as np
import scipy.io
from expelliarmus import Wizard

A, B, C, D = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5
folder = Path(sys.argv[1])


def row(file, reader, options, t, x, y, p):
    t, x, y, p = (np.asarray(v).astype(np.int64).astype(np.uint64) for v in (t, x, y, p))
    i = np.arange(1, len(t) + 1, dtype=np.uint64)
    h = np.sum(i * (t * np.uint64(A) + x * np.uint64(B) + y * np.uint64(C) + p * np.uint64(D)), dtype=np.uint64)
    print(file, f"{reader} {version(reader)}", options, len(t), f"{int(h):016x}", sep="\t")


def fields(file, reader, e, options="", names="txyp"):
    row(file, reader, options, *(e[n] for n in names))


print("file", "reader", "options", "events", "hash", sep="\t")
for file, encoding in [("ncars.dat", "dat"), ("evt2_vga.raw", "evt2"), ("evt2_640x480.raw", "evt2"), ("evt3_hd.raw", "evt3")]:
    options = "format=evt3-expelliarmus" if encoding == "evt3" else ""
    fields(file, "expelliarmus", Wizard(encoding=encoding).read(folder / file), options)
for file in sorted(folder.glob("*.aedat4")):
    packets = [p["events"] for p in aedat.Decoder(file) if "events" in p]
    if packets:
        e = np.concatenate(packets)
        fields(file.name, "aedat", e, names=["t", "x", "y", "on" if "on" in e.dtype.names else "p"])
for file in ["dvs_30x32.es", "dvs_320x240.es"]:
    with event_stream.Decoder(folder / file) as decoder:
        e = np.concatenate(list(decoder))
        fields(file, "event_stream", e, names=["t", "x", "y", "on"])
fields("evt3_hd_decoded.npy", "numpy", np.load(folder / "evt3_hd_decoded.npy"))
with h5py.File(folder / "raw_events.hdf5") as f:
    g = f["raw_events"]
    row("raw_events.hdf5", "h5py", "", np.round(g["t"][:] * 1e6) if g["t"].dtype.kind == "f" else g["t"][:], g["x"][:], g["y"][:], g["p"][:])
columns = scipy.io.loadmat(folder / "stmnist.mat")["spiketrain"]
at, taxel = np.nonzero(columns[:100].T)
row("stmnist.mat", "scipy", "", np.round(columns[100, at] * 1e6), taxel % 10, taxel // 10, columns[taxel, at] > 0)
text = np.loadtxt(folder / "mnist_dvs_window.txt")[:-1]  # the last row is a terminator
row("mnist_dvs_window.txt", "numpy", "", text[:, 2], text[:, 0], text[:, 1], text[:, 3])
for file in ["nmnist.bin", "ncaltech101_faces_easy_0001.bin"]:
    r = np.fromfile(folder / file, dtype=np.uint8).reshape(-1, 5).astype(np.int64)
    t = ((r[:, 2] & 127) << 16 | r[:, 3] << 8 | r[:, 4]) + (np.cumsum(r[:, 1] == 240) << 13)
    keep = r[:, 1] != 240
    row(file, "numpy", "", t[keep], r[keep, 0], r[keep, 1], r[keep, 2] >> 7)
