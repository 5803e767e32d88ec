"""How fast picture files become an array of 224 x 224 pixels, and beside what.

    python benchmarks/decoding.py

Images per second from files of 0.2, 2, 12 and 48 megapixels (JPEG of quality 90; PNG up
to 2), all squashed to 224 x 224 RGB in threads, the ways in turn: the library, loops of
Pillow, torchvision and OpenCV that do no more than this, and those of Pillow and OpenCV
again with a JPEG decoded at 1/2, 1/4 or 1/8 of its size, still at least twice as large
as wanted. A loop has as many threads as there are cores; the library takes what it
takes. Also recorded: how far the pixels are from those of the plain loop of Pillow, and
by how much the largest JPEGs raise the peak of the resident set (Linux), each way in a
process of its own that has read a small file before.

The pictures are noise of several scales, with about as many bytes per pixel as
photographs. OpenCV (``pip install opencv-python-headless``) is left out where it is
not installed. ``--sizes`` takes other megapixels, ``--images`` so many files of every
size, ``--repeats`` so many rounds; ``--quick`` is a rehearsal with two small sizes, and
writes to ``work/``, which is not kept. Sizes that the record has are not run again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from record import RESULTS, WORK, Record, Shown, tabulate, time_in_turn
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional

from sktransfer._images.pictures.reading import read_pictures

SIDE = 224
N_THREADS = os.cpu_count() or 1
Pixels = NDArray[np.uint8]

# Files by megapixels, at least one for each thread; other sizes take the last.
N_FILES = {0.2: 64, 2: 16, 12: 8, 48: 4}
LARGEST_PNG = 2
N_ROUNDS, N_MEMORY_ROUNDS = 5, 3
QUICK_SIZES = [0.2, 2]

# Standard deviation of the noise at a grain of 1, 2, 4 and more pixels, chosen so that
# a file has 0.29 bytes per pixel; photographs have 0.2 to 0.5. Colours are coarse, and
# fainter than grey.
FINE_NOISE, COARSE_NOISE = (3.0, 6.0, 12.0), 16.0
COLOUR = 0.3
# Pictures that are drawn at a time: one of 48 megapixels takes about a gigabyte.
N_DRAWN = 2

SHOWN = {
    "images_per_second": Shown("Images per second", 1, ".1f"),
    "speed": Shown("Speed, Pillow = 1", 1, ".2f"),
    "mean_difference": Shown("Mean difference from Pillow, levels", 1, ".2f"),
    "max_difference": Shown("Largest difference from Pillow, levels", 1, ".0f"),
    "more_mib": Shown("More memory, MiB", 1, ".0f"),
}


def read_with_pillow(path: Path) -> Pixels:
    """Decode the whole picture."""
    image = Image.open(path).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def read_with_draft(path: Path) -> Pixels:
    """Let Pillow decode a JPEG at a fraction of its size."""
    image = Image.open(path)
    image.draft("RGB", (2 * SIDE, 2 * SIDE))
    image = image.convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def read_with_torchvision(path: Path) -> Pixels:
    """Decode the whole picture."""
    image = decode_image(path, ImageReadMode.RGB, apply_exif_orientation=True)
    small = functional.resize(image, [SIDE, SIDE], antialias=True)
    return small.permute(1, 2, 0).numpy()


def read_with_opencv(path: Path, reduced: bool = False) -> Pixels:
    """Decode the whole picture, or a JPEG at a fraction of its size."""
    import cv2

    flag = cv2.IMREAD_COLOR
    if reduced:
        flags = {
            8: cv2.IMREAD_REDUCED_COLOR_8,
            4: cv2.IMREAD_REDUCED_COLOR_4,
            2: cv2.IMREAD_REDUCED_COLOR_2,
        }
        with Image.open(path) as image:  # OpenCV tells no size before it decodes
            fits = [n for n in flags if min(image.size) // n >= 2 * SIDE]
        flag = flags[fits[0]] if fits else flag
    image = cv2.imread(str(path), flag)
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., ::-1]


def read_in_threads(read: Callable[[Path], Pixels], paths: list[Path]) -> Pixels:
    """Read every file with a function that reads one."""
    images = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)

    def read_into(index: int) -> None:
        images[index] = read(paths[index])

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(read_into, range(len(paths))))
    return images


def read_with_library(paths: list[Path]) -> Pixels:
    """Read every file with the library."""
    return read_pictures(paths, (SIDE, SIDE, 3), "squash")


class Way(NamedTuple):
    """How files are read, with which version; a plain loop reduces no JPEG."""

    read: Callable[[list[Path]], Pixels]
    version: str
    is_reduced: bool = False


def leave_cores() -> None:
    """Let no library start threads of its own within those that read."""
    torch.set_num_threads(1)
    if find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)


def list_ways() -> dict[str, Way]:
    """List the ways that are installed."""
    pillow, tv = f"Pillow {PIL.__version__}", f"torchvision {torchvision.__version__}"

    def loop(read: Callable[[Path], Pixels]) -> Callable[[list[Path]], Pixels]:
        return partial(read_in_threads, read)

    ways = {
        "sktransfer": Way(read_with_library, pillow),
        "Pillow": Way(loop(read_with_pillow), pillow),
        "Pillow, draft": Way(loop(read_with_draft), pillow, True),
        "torchvision": Way(loop(read_with_torchvision), tv),
    }
    if find_spec("cv2"):
        import cv2

        version = f"OpenCV {cv2.__version__}"
        reduced = partial(read_with_opencv, reduced=True)
        ways["OpenCV"] = Way(loop(read_with_opencv), version)
        ways["OpenCV, reduced"] = Way(loop(reduced), version, True)
    return ways


def draw(width: int, height: int, seed: int) -> Image.Image:
    """Draw noise, from the coarsest grain to the finest."""
    rng = np.random.default_rng(seed)
    n_scales = int(np.log2(width / 8)) + 1
    image = Image.new("RGB", (8, 6), (128, 128, 128))
    for scale in reversed(range(n_scales)):
        size = (width >> scale, height >> scale)
        image = image.resize(size, Image.Resampling.BICUBIC)
        is_fine, shape = scale < len(FINE_NOISE), (size[1], size[0], 3)
        noise = rng.standard_normal((*shape[:2], 1), np.float32)
        if not is_fine:
            noise = noise + COLOUR * rng.standard_normal(shape, np.float32)
        noise = noise * (FINE_NOISE[scale] if is_fine else COARSE_NOISE)
        pixels = np.asarray(image) + noise
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image


def write_files(folder: Path, megapixels: float, n: int, form: str) -> list[Path]:
    """Write pictures three quarters as high as wide; return their paths."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    paths = [folder / f"{i}.{form}" for i in range(n)]

    def write(seed: int) -> None:
        draw(width, width * 3 // 4, seed).save(paths[seed], quality=90)

    with ThreadPoolExecutor(N_DRAWN) as pool:
        list(pool.map(write, range(n)))
    return paths


def measure(
    ways: dict[str, Way], paths: list[Path], n_rounds: int
) -> dict[str, dict[str, Any]]:
    """Return the rates of every way, and how far its pixels are from Pillow's."""
    made: dict[str, Pixels] = {}

    def call(name: str) -> None:
        made[name] = ways[name].read(paths)

    seconds = time_in_turn({name: partial(call, name) for name in ways}, n_rounds)
    found = {}
    for name, way in ways.items():
        difference = np.abs(made[name].astype(int) - made["Pillow"])
        pairs = zip(seconds["Pillow"], seconds[name], strict=True)
        found[name] = {
            "version": way.version,
            "images_per_second": [round(len(paths) / s, 3) for s in seconds[name]],
            "speed": [round(pillow / own, 4) for pillow, own in pairs],
            "mean_difference": round(float(difference.mean()), 4),
            "max_difference": int(difference.max()),
        }
    return found


def read_peak() -> int:
    """Return the peak resident set of this process so far, in bytes."""
    # Not ru_maxrss, which starts at the peak of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if "VmHWM" in line))


def measure_growth(name: str, small: list[Path], paths: list[Path]) -> float:
    """Return the mebibytes by which reading raises the peak, after a small file."""
    leave_cores()
    read = list_ways()[name].read
    read(small)
    before = read_peak()
    read(2 * paths)  # work for all threads, of which the library may have more
    return (read_peak() - before) / 2**20


def measure_memory(name: str, paths: list[Path], n_rounds: int) -> list[float]:
    """Measure the growth of the peak, each time in a new process."""
    context = multiprocessing.get_context("spawn")
    growths = []
    with tempfile.TemporaryDirectory() as folder:
        small = write_files(Path(folder), min(N_FILES), 1, "jpg")
        for _ in range(n_rounds):
            with context.Pool(1) as pool:
                growth = pool.apply(measure_growth, (name, small, paths))
            growths.append(round(growth, 1))
    return growths


def run(record: Record, megapixels: float, form: str, args: argparse.Namespace) -> None:
    """Measure files of one size and format."""
    with tempfile.TemporaryDirectory() as folder:
        n = args.images or max(
            N_FILES.get(megapixels, min(N_FILES.values())), N_THREADS
        )
        paths = write_files(Path(folder), megapixels, n, form)
        n_bytes = sum(path.stat().st_size for path in paths) / n
        ways = list_ways()
        if form == "png":  # only a JPEG can be decoded at a fraction of its size
            ways = {name: way for name, way in ways.items() if not way.is_reduced}
        found = measure(ways, paths, args.repeats)
        is_largest = (form, megapixels) == ("jpg", max(args.sizes))
        if is_largest and sys.platform == "linux":
            n_rounds = min(args.repeats, N_MEMORY_ROUNDS)
            for name in ways:
                found[name]["more_mib"] = measure_memory(name, paths, n_rounds)
    for name, row in found.items():
        record.add(
            format=form,
            megapixels=megapixels,
            way=name,
            n_images=n,
            n_threads=N_THREADS,
            bytes_per_pixel=round(n_bytes / megapixels / 1e6, 3),
            **row,
        )


def split(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each round, and one for what all rounds share."""
    lists = {key: value for key, value in row.items() if isinstance(value, list)}
    key = {name: row[name] for name in ("format", "megapixels", "way")}
    yield {name: value for name, value in row.items() if name not in lists}
    for name, values in lists.items():
        for value in values:
            yield {**key, name: value}


def main() -> None:
    """Measure the sizes that the record lacks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", help="megapixels")
    parser.add_argument("--images", type=int, help="files of every size")
    parser.add_argument("--repeats", type=int, help="rounds")
    parser.add_argument("--quick", action="store_true", help="a rehearsal")
    args = parser.parse_args()
    args.sizes = args.sizes or (QUICK_SIZES if args.quick else list(N_FILES))
    args.repeats = args.repeats or (1 if args.quick else N_ROUNDS)
    args.images = args.images or (N_THREADS if args.quick else None)
    leave_cores()
    record = Record("decoding", WORK if args.quick else RESULTS)
    if "OpenCV" not in list_ways():
        print("OpenCV is not installed, and is left out.")
    cases = [("jpg", size) for size in args.sizes]
    cases += [("png", size) for size in args.sizes if size <= LARGEST_PNG]
    for form, size in cases:
        if not record.find(format=form, megapixels=size):
            run(record, size, form, args)
    rows = [part for row in record.rows for part in split(row)]
    down = {name: {"way": name} for name in dict.fromkeys(r["way"] for r in rows)}
    across = {
        f"{'JPEG' if form == 'jpg' else 'PNG'}, {size:g} MP": {
            "format": form,
            "megapixels": size,
        }
        for form, size in cases
    }
    print(tabulate(rows, down, across, SHOWN))


if __name__ == "__main__":
    main()
