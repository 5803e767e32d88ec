"""How much memory and time a single picture of 196 megapixels takes, by format.

    python benchmarks/giants.py

Each is drawn once (uniform, so that files are small; decoding takes as much memory as
for others), and read at 288 x 288 pixels in a process of its own. Recorded: by how much
that raises the peak of the resident set (Linux), and the seconds.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path

from PIL import Image
from record import RESULTS, Record, Shown, tabulate

from sktransfer._images.pictures.reading import read_pictures

SIDE, SEEN = 14_000, 288
N_REPEATS = 3

FORMATS = {
    "JPEG": ("a.jpg", "RGB", {}),
    "JPEG, progressive": ("b.jpg", "RGB", {"progressive": True}),
    "PNG": ("a.png", "RGB", {}),
    "PNG, transparent": ("b.png", "RGBA", {}),
    "PNG, 16 bits": ("c.png", "I;16", {}),
    "TIFF": ("a.tiff", "RGB", {"compression": "tiff_lzw"}),
    "WebP": ("a.webp", "RGB", {}),
}
SHOWN = {
    "more_mib": Shown("More memory, MiB", 1, ",.0f"),
    "seconds": Shown("Seconds", 1, ".1f"),
}


def peak_mib() -> float:
    """Return the peak of the resident set of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if "VmHWM" in line).split()[1]) / 1024


def read(path: str) -> tuple[float, float]:
    """Read a picture; return by how much the peak rose, and the seconds."""
    read_pictures([Image.new("RGB", (8, 8))], (SEEN, SEEN, 3), "squash")
    before, started = peak_mib(), time.perf_counter()
    read_pictures([path], (SEEN, SEEN, 3), "squash")
    return peak_mib() - before, time.perf_counter() - started


def main() -> None:
    """Measure every format that the record does not have, and show all."""
    record = Record("giants", RESULTS)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, mode, options) in FORMATS.items():
            path = Path(folder, file)
            n_missing = N_REPEATS - len(record.find(format=name))
            if n_missing > 0:
                Image.new(mode, (SIDE, SIDE), None).save(path, **options)
            for _ in range(n_missing):
                with spawn.Pool(1) as pool:
                    more, seconds = pool.apply(read, [str(path)])
                row = {"format": name, "more_mib": round(more), "seconds": seconds}
                record.add(**row, pixels=SIDE**2)
    down = {name: {"format": name} for name in FORMATS}
    print(tabulate(record.rows, down, {"": {}}, SHOWN))


if __name__ == "__main__":
    main()
