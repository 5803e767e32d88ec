"""Ten thousand damaged files are read or refused by name; nothing else happens."""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import perf_counter

import numpy as np
import pytest
from PIL import Image

from sktransfer._images.containers import list_pictures
from sktransfer._images.pictures.formats import is_picture_file, list_formats
from sktransfer._images.pictures.reading import read_pictures, read_shapes
from sktransfer.datasets import check_images
from tests.images.mutants import mutate
from tests.images.originals import list_originals

try:
    import resource
except ImportError:  # Windows
    resource = None

N_MUTANTS = 1250  # of each format, of which there are eight, or nine with HEIF
N_CHECKED = 40  # of each format, by check_images
SHAPE = (24, 24, 3)

# Far more than all takes, about 30 s on one core.
SECONDS = 900

# A damaged PNG may ask for 4 GB that it never touches, so that the memory in use is
# bounded more tightly than the addresses.
MOST_ADDRESSES, MOST_MEMORY = 6 * 2**30, 2 * 2**30


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a process saw that read all mutants; it may crash, hang or eat memory."""
    folder = tmp_path_factory.mktemp("mutants")
    code = "import sys; from tests.images import test_mutated_pictures as t; "
    done = subprocess.run(
        [sys.executable, "-c", code + "t.read_all(sys.argv[1])", str(folder)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 60,
    )
    assert done.returncode == 0, f"on {folder / 'mutant'}: {done.stderr[-3000:]}"
    return json.loads((folder / "seen.json").read_text())


@pytest.mark.parametrize("kind", list_formats())
def test_undamaged_files_are_read(tmp_path, kind):
    for content in list_originals()[kind]:
        (tmp_path / "a").write_bytes(content)
        images = read_pictures([tmp_path / "a"], SHAPE, max_value=65535)
        assert images.shape == (1, *SHAPE)


@pytest.mark.parametrize("kind", list_formats())
def test_damaged_files_raise_nothing_but_value_errors(seen, kind):
    one = seen[kind]
    assert one["escaped"] == []
    assert one["read"] + one["refused"] == N_MUTANTS
    # Neither too much nor too little damage to find anything.
    assert min(one["read"], one["refused"]) > N_MUTANTS / 20


@pytest.mark.parametrize("kind", list_formats())
def test_no_warning_but_pillows_escapes(seen, kind):
    assert seen[kind]["warnings"] == []


@pytest.mark.parametrize("kind", list_formats())
def test_damaged_files_are_checked(seen, kind):
    assert seen[kind]["check"] == "list"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units")
def test_damaged_files_use_little_memory(seen):
    assert seen["memory"] < MOST_MEMORY


def test_a_picture_that_memory_does_not_suffice_for_is_named(tmp_path, monkeypatch):
    def fail(image):
        raise MemoryError

    Image.new("RGB", (8, 8)).save(tmp_path / "a.bmp")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ValueError, match=r"image 0 .*a\.bmp.* memory does not suffice"):
        read_pictures([tmp_path / "a.bmp"], SHAPE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bits", [0x7F800000, 0x7FA00000, 0x7FC00000, 0xFF800000])
def test_floats_that_are_not_finite_are_refused_without_a_warning(tmp_path, bits):
    values = np.full((24, 24), 0.5, np.float32)
    values.view(np.uint32)[3, 3] = bits
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"image 0 .* its values, from .* outside"):
        read_pictures([tmp_path / "a.tiff"], SHAPE, max_value=np.inf)
    [found] = check_images([tmp_path / "a.tiff"])
    assert "could not be read" in found.problem


def read_all(folder: str) -> None:
    """Read the mutants of every format, and write what was seen to a file."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    originals = list_originals()
    others = [content for some in originals.values() for content in some]
    seen, mutant = {}, Path(folder, "mutant")
    with bounded_memory():
        for kind, some in originals.items():
            mutants = [
                mutate(Random(f"{kind} {seed}"), some, others)
                for seed in range(N_MUTANTS)
            ]
            seen[kind] = read_mutants(mutant, mutants)
            seen[kind]["check"] = check(Path(folder, kind), mutants[:N_CHECKED])
    if resource:
        seen["memory"] = find_peak()
    Path(folder, "seen.json").write_text(json.dumps(seen, indent=1))


def find_peak() -> int | None:
    """Return the most bytes that this process has used; None except on Linux.

    Not by getrusage, which also counts what the process had that started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM:"))
    return 1024 * int(peak.split()[1])


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Let this process allocate only so much more than it has."""
    if sys.platform != "linux":
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MOST_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def read_mutants(path: Path, mutants: list[bytes]) -> dict:
    """Read mutants of one format, the last of which remains in a file."""
    counts, escaped, seconds = Counter(), [], []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed, content in enumerate(mutants):
            path.write_bytes(content)
            start = perf_counter()
            try:
                counts[read(path, content, seed)] += 1
            except BaseException:
                escaped.append(f"{seed}: {traceback.format_exc()[-1500:]}")
            seconds.append(perf_counter() - start)
    return {
        "read": counts["read"],
        "refused": counts["refused"],
        "escaped": escaped,
        "warnings": sorted(
            f"{w.filename}: {w.message}"
            for w in caught
            if "PIL" not in Path(w.filename).parts
        ),
        "slowest": [max(seconds), int(np.argmax(seconds))],
        "seconds": sum(seconds),
    }


def read(path: Path, content: bytes, seed: int) -> str:
    """Read one mutant, every third as a record with bytes; return what became of it.

    Every fourth is read with another white, without which floats are refused.
    """
    is_record, max_value = seed % 3 == 0, "auto" if seed % 4 else 255
    has_shape = False
    try:
        record = {"bytes": content, "path": None}
        pictures = list_pictures([record]) if is_record else [path]
        assert min(read_shapes(pictures, max_value=max_value).typical) > 0
        has_shape = True
        images = read_pictures(pictures, SHAPE, max_value=max_value)
    except ValueError as error:
        check_refusal(error)
        if not has_shape and not is_record:
            refuse_pixels(path, max_value)
        return "refused"
    assert images.shape == (1, *SHAPE)
    assert images.dtype == np.uint8
    return "read"


def check_refusal(error: ValueError) -> None:
    """Make sure that an error names the picture, and that memory sufficed."""
    assert "image 0" in str(error)
    assert not isinstance(error.__cause__, MemoryError)


def refuse_pixels(path: Path, max_value: float | str) -> None:
    """Make sure that a picture without a readable header is refused by name."""
    with pytest.raises(ValueError, match="image 0"):
        read_pictures([path], SHAPE, max_value=max_value)


def check(folder: Path, mutants: list[bytes]) -> str:
    """Check some mutants as files of a folder; return the type of what is found."""
    folder.mkdir()
    paths = [folder / str(seed) for seed in range(len(mutants))]
    for path, content in zip(paths, mutants, strict=True):
        path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            for path in paths:
                is_picture_file(str(path))
            return type(check_images(paths)).__name__
        except Exception:
            return traceback.format_exc()
