"""Times a public reader on an event file: `python peer_decode.py FORMAT FILE SECONDS` prints one JSON object.

The readers are those a person installs from PyPI; where a format has none that is a package, NumPy does what dataset
libraries do with it.
"""
import json
import sys
import time
from importlib.metadata import version


def expelliarmus(encoding):
    from expelliarmus import Wizard

    wizard = Wizard(encoding=encoding)
    return "expelliarmus", lambda path: wizard.read(path)


def aedat4():
    import aedat

    def read(path):
        return [p["events"] for p in aedat.Decoder(path) if "events" in p]

    return "aedat", read


def es():
    import event_stream

    def read(path):
        with event_stream.Decoder(path) as decoder:
            return list(decoder)

    return "event_stream", read


def atis():
    import numpy as np

    def read(path):
        r = np.fromfile(path, dtype=np.uint8).reshape(-1, 5).astype(np.int64)
        t = (r[:, 2] & 127) << 16 | r[:, 3] << 8 | r[:, 4]
        overflow = r[:, 1] == 240
        t += np.cumsum(overflow) << 13
        out = np.empty(len(r), dtype=[("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])
        out["t"], out["x"], out["y"], out["p"] = t, r[:, 0], r[:, 1], r[:, 2] >> 7
        return out[~overflow]

    return "numpy", read


def npy():
    import numpy as np

    return "numpy", np.load


def npz():
    import numpy as np

    def read(path):
        with np.load(path) as columns:
            return np.stack([columns[c].astype(np.int64) for c in "txyp"], axis=1)

    return "numpy", read


def csv():
    import numpy as np

    def read(path):
        with open(path) as f:
            first = f.readline()
        named = any(c.isalpha() for c in first.replace("e", ""))
        return np.loadtxt(path, delimiter="," if "," in first else None, skiprows=int(named), ndmin=2)

    return "numpy", read


def hdf5():
    import h5py
    import numpy as np

    def read(path):
        columns = {}
        with h5py.File(path) as f:
            f.visititems(lambda name, d: columns.update({name[-1]: d}) if name.split("/")[-1] in ("t", "x", "y", "p") else None)
            return np.stack([columns[c][:].astype(np.int64) for c in "txyp"], axis=1)

    return "h5py", read


READERS = {
    "dat": lambda: expelliarmus("dat"),
    "evt2": lambda: expelliarmus("evt2"),
    "evt3": lambda: expelliarmus("evt3"),
    "aedat4": aedat4,
    "es": es,
    "atis": atis,
    "npy": npy,
    "npz": npz,
    "csv": csv,
    "hdf5": hdf5,
}


def main(encoding, path, seconds):
    if encoding not in READERS:
        return {"error": f"no public reader of {encoding} is known"}
    try:
        name, read = READERS[encoding]()
    except ImportError as e:
        return {"error": f"{e.name} is not installed"}
    try:
        best, begin = float("inf"), time.perf_counter()
        while True:
            start = time.perf_counter()
            events = read(path)
            best = min(best, time.perf_counter() - start)
            if time.perf_counter() - begin > seconds:
                break
        n = sum(map(len, events)) if isinstance(events, list) else len(events)
        return {"reader": f"{name} {version(name)}", "events": n, "seconds": best}
    except Exception as e:  # whatever a reader makes of the file
        return {"error": f"{name}: {type(e).__name__}: {e}"}


print(json.dumps(main(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
