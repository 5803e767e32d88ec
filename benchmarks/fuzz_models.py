"""Whether a million damaged and forged inputs make a reader of model files fail.

    python benchmarks/fuzz_models.py

Three readers get inputs that the tests' mutators make at random, each from a seed:
headers of files (600,000), descriptions (300,000) and whole model files, which are
loaded and predict (100,000). Only the errors that each promises may escape; seeds of
others are recorded. ``python benchmarks/fuzz_models.py 10000`` is a rehearsal of so
many in all.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from random import Random

import torch
from record import HERE, WORK, Record

sys.path.insert(0, str(HERE.parent))  # the mutators are tests'

import sktransfer
from sktransfer import ModelFileError
from sktransfer._estimators.persistence.kinds import list_codecs
from sktransfer._files.encoding import Decoder, EncodingError
from sktransfer._files.headers import HeaderError, parse_json, read_header
from tests.estimators.persistence.fitted import fit, outputs, see
from tests.files.forging import join, take_apart
from tests.files.mutants import VALUES, change_bytes, list_places, mutate, put

try:
    import resource
except ImportError:  # Windows
    resource = None

# Of a million.
SHARES = {"headers": 0.6, "descriptions": 0.3, "models": 0.1}


def peak() -> float:
    """Return the most memory that this process has taken, in MB (on Linux)."""
    if resource is None:
        return float("nan")
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def make_headers(packed: bytes, path: Path) -> Callable[[Random], str]:
    """Make a function that reads a damaged header."""
    n_bytes = int.from_bytes(packed[:8], "little")
    text, payload = packed[8 : 8 + n_bytes], packed[8 + n_bytes :]
    file = FileIO(path, "w+")

    def read(chance: Random) -> str:
        file.seek(0)
        file.truncate()
        file.write(join(change_bytes(chance, text), payload))
        try:
            read_header(file)
        except HeaderError:
            return "refused"
        return "read"

    return read


def make_descriptions(packed: bytes) -> Callable[[Random], str]:
    """Make a function that decodes a damaged description."""
    metadata, tensors = take_apart(packed)
    text = metadata["content"].encode()
    arrays = [t.content for name, t in tensors.items() if name.startswith("array.")]
    codecs = list_codecs()

    def read(chance: Random) -> str:
        if chance.random() < 0.5:
            changed = change_bytes(chance, text)
        else:
            content = json.loads(text)
            put(content, chance.choice(list_places(content)), chance.choice(VALUES))
            changed = json.dumps(content).encode()
        try:
            Decoder(codecs, [bytearray(a) for a in arrays]).decode(parse_json(changed))
        except (HeaderError, EncodingError):
            return "refused"
        return "read"

    return read


def make_models(packed: bytes, path: Path) -> Callable[[Random], str]:
    """Make a function that loads a damaged model, and predicts."""
    X, right = see("scratch"), outputs(fit("scratch"), see("scratch")).tobytes()

    def read(chance: Random) -> str:
        _, mutant = mutate(chance, packed)
        path.write_bytes(mutant)
        try:
            loaded = sktransfer.load(path)
        except ModelFileError:
            return "refused"
        try:
            found = outputs(loaded, X).tobytes()
        except FloatingPointError:  # of forged weights
            return "overflows"
        return "read" if found == right else "other predictions, with a right hash"

    return read


def measure(record: Record, reader: str, read: Callable[[Random], str], n: int) -> None:
    """Give a reader so many inputs."""
    counts: Counter[str] = Counter()
    escaped, slowest, before = [], (0.0, -1), peak()
    started = time.perf_counter()
    for seed in range(n):
        began = time.process_time()
        try:
            counts[read(Random(f"{reader} {seed}"))] += 1
        except Exception as error:
            escaped.append([seed, repr(error)[:200]])
        slowest = max(slowest, (time.process_time() - began, seed))
    seconds = time.perf_counter() - started
    record.add(
        reader=reader,
        n_cases=n,
        found=dict(counts),
        escaped=escaped[:20],
        n_escaped=len(escaped),
        cases_per_second=round(n / seconds, 1),
        slowest_cpu_seconds=round(slowest[0], 3),
        slowest_seed=slowest[1],
        memory_mb_more=round(peak() - before, 1),
    )


def main(n_cases: int) -> None:
    """Measure what the record lacks; a rehearsal is recorded elsewhere."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    is_whole = n_cases >= 10**6
    record = Record("fuzz_models") if is_whole else Record("fuzz_models", WORK)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        fit("scratch").save(path)
        packed = path.read_bytes()
        sktransfer.load(path).predict(see("scratch"))
        readers = {
            "headers": make_headers(packed, path),
            "descriptions": make_descriptions(packed),
            "models": make_models(packed, Path(folder) / "mutant"),
        }
        for reader, read in readers.items():
            if not record.find(reader=reader):
                measure(record, reader, read, int(n_cases * SHARES[reader]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10**6)
