"""Small weight files of every format, and damaged ones made of them."""

import io
import struct
import zipfile

import numpy as np
import torch
from safetensors.torch import save

# What claims are replaced by: sizes at the limits of the usual integers.
EXTREMES = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]
EXTREMES += [2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def make_seeds():
    """Make whole files, as name endings and contents."""
    generator = torch.Generator().manual_seed(0)
    state = {
        "conv1.weight": torch.rand((4, 3, 3, 3), generator=generator),
        "bn1.weight": torch.ones(4, dtype=torch.bfloat16),
        "bn1.num_batches_tracked": torch.tensor(7),
        "layer1.0.conv1.weight": torch.rand((4, 4), generator=generator).T,
        "mask": torch.ones(3, dtype=torch.bool),
    }
    plain = {name: tensor.contiguous() for name, tensor in state.items()}
    nested = {"epoch": 3, "state_dict": state, "lr": [0.1, None, {"a": (1, "b")}]}
    seeds = [(".safetensors", save(plain, {"format": "pt"}))]
    for content in (state, nested):
        for new in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=new)
            seeds.append((".pth", file.getvalue()))
    return seeds


def repack(content, change):
    """Change the pickle in an archive, with the right checksum."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as archive,
        zipfile.ZipFile(packed, "w") as changed,
    ):
        for name in archive.namelist():
            part = archive.read(name)
            changed.writestr(name, change(part) if name.endswith(".pkl") else part)
    return packed.getvalue()


def mutate(content, others, rng):
    """Damage a file, mostly where it says what it holds."""
    if content.startswith(b"PK") and rng.random() < 0.6:
        return repack(content, lambda part: _damage(part, others, rng))
    return _damage(content, others, rng)


def _damage(content, others, rng):
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        _damage_once(changed, others, rng)
    return bytes(changed)


def _damage_once(changed, others, rng):
    n = len(changed)
    # The beginning and the end say what is between them.
    near = int(min(n, rng.choice([16, 64, 1024, n])))
    place = int(rng.integers(0, near)) if n else 0
    if rng.random() < 0.3:
        place = max(0, n - 1 - place)
    kind = rng.integers(7)
    length = int(rng.integers(1, 17))
    if kind == 0 and n:
        changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        changed[place : place + 1] = rng.bytes(1)
    elif kind == 2:
        del changed[place:]
    elif kind == 3:
        del changed[place : place + length]
    elif kind == 4:
        changed[place:place] = changed[place : place + length] * int(
            rng.integers(1, 99)
        )
    elif kind == 5:
        other = others[rng.integers(len(others))]
        start = int(rng.integers(0, len(other)))
        changed[place : place + length] = other[start : start + length]
    else:
        form = str(rng.choice(["<B", "<H", "<I", "<Q"]))
        size = struct.calcsize(form)
        value = EXTREMES[rng.integers(len(EXTREMES))] % 256**size
        changed[place : place + size] = struct.pack(form, value)


def make_mutants(n, seed):
    """Yield the endings and contents of damaged files."""
    rng = np.random.default_rng(seed)
    seeds = make_seeds()
    others = [content for _, content in seeds]
    for i in range(n):
        ending, content = seeds[i % len(seeds)]
        yield ending, mutate(content, others, rng)
