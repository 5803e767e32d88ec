"""Damage done to files of activations: to their bytes, or to what their headers say."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch

from sktransfer._activations.storage.claims import DamagedError
from sktransfer._activations.storage.segments import pack, read_rows, read_segment
from tests.images.mutants import mutate as damage_bytes

# What stands in place of a number, a list or a name.
ODD_VALUES = (
    0,
    1,
    -1,
    7,
    2**31,
    2**63,
    10**12,
    10**400,
    1.0,
    1e300,
    float("nan"),
    float("inf"),
    True,
    False,
    None,
    "",
    "F32",
    "F16",
    "I64",
    "U8",
    "F64",
    [],
    {},
    [10**12, 10**12],
    [0],
    [1] * 1000,
    [2**63, 2**63 + 1],
)
DEEP = 40_000  # of brackets
Known = dict[bytes, torch.Tensor]


def make_originals() -> tuple[list[bytes], Known]:
    """Return whole files of several formats and shapes, and their rows by key."""
    chance = torch.Generator().manual_seed(0)
    contents, known = [], {}
    forms = [
        (torch.float32, (8, 12)),
        (torch.bfloat16, (5, 2, 3, 3)),
        (torch.float16, (4, 6)),
        (torch.float32, (1, 40)),
        (torch.bfloat16, (12, 1)),
    ]
    for i, (dtype, shape) in enumerate(forms):
        rows = torch.rand(shape, generator=chance).to(dtype)
        keys = [bytes([i + 1, j]) * 8 for j in range(len(rows))]
        contents.append(pack(keys, rows))
        known.update(zip(keys, rows, strict=True))
    return contents, known


def mutate(rng: Random, originals: Sequence[bytes]) -> bytes:
    """Return one of some files with a few damages."""
    content = rng.choice(originals)
    if rng.random() < 0.4:
        return damage_bytes(rng, [content], list(originals))
    length = int.from_bytes(content[:8], "little")
    header, payload = json.loads(content[8 : 8 + length]), content[8 + length :]
    for _ in range(rng.randint(0, 2)):
        _damage_header(rng, header)
    text = _damage_text(rng, json.dumps(header)).encode()
    if rng.random() < 0.2:
        payload = _damage_payload(rng, payload)
    return len(text).to_bytes(8, "little") + text + payload


def _draw_odd(rng: Random) -> Any:
    """Draw an odd value, which the next damage may change."""
    return copy.deepcopy(rng.choice(ODD_VALUES))


def _damage_header(rng: Random, header: dict[str, Any]) -> None:
    """Change one thing that a header says."""
    name = rng.choice(sorted(header) or ["keys"])
    entry = header.get(name)
    kind = rng.randrange(6)
    if kind == 0 or not isinstance(entry, dict) or not entry:
        header[name] = _draw_odd(rng)
    elif kind == 1:
        del header[name]
    elif kind == 2:
        header[rng.choice(("other", "keys", "crc32"))] = copy.deepcopy(entry)
    elif kind == 3:
        entry[rng.choice(sorted(entry))] = _draw_odd(rng)
    else:
        _change_number(rng, entry.get(rng.choice(("shape", "data_offsets"))))


def _change_number(rng: Random, numbers: Any) -> None:
    """Change, add, remove or swap numbers of a list."""
    if not isinstance(numbers, list) or not numbers:
        return
    at = rng.randrange(len(numbers))
    numbers[at] = rng.choice(
        (
            _draw_odd(rng),
            rng.choice((1, -1, 8, 16)) + (numbers[at] if numbers[at] == 0 else 1),
            numbers[-1],
        )
    )
    if rng.random() < 0.3:
        numbers.append(_draw_odd(rng))


def _damage_text(rng: Random, text: str) -> str:
    """Write a header as no program would."""
    kind = rng.randrange(12)
    if kind == 0:
        return text[:-1] + ', "keys": {}}'
    if kind == 1:
        return '{"deep": ' + "[" * DEEP + "]" * DEEP + "}"
    if kind == 2:
        return text + " " * rng.choice((8, 99_000, 200_000))
    if kind == 3:
        return text[: rng.randrange(len(text))]
    return text


def _damage_payload(rng: Random, payload: bytes) -> bytes:
    kind, at = rng.randrange(4), rng.randrange(len(payload))
    if kind == 0:
        return payload[:at]
    if kind == 1:
        return payload + bytes(rng.randint(1, 100))
    if kind == 2:
        return bytes(len(payload))
    return (
        payload[:at] + bytes([payload[at] ^ 1 << rng.randrange(8)]) + payload[at + 1 :]
    )


def read_all(path: Path, known: Known) -> int:
    """Read every row that a file claims to hold; return how many were right.

    A row that counts as right, but is not what was written, is an AssertionError; a
    file that is refused counts as one without rows.
    """
    try:
        segment = read_segment(path)
        rows, is_right = read_rows(path, segment, range(len(segment.keys)))
    except DamagedError:
        return 0
    for key, row, right in zip(segment.keys, rows, is_right.tolist(), strict=True):
        if right:
            assert key in known, f"a row of nobody's in {path}"
            same = row.dtype == known[key].dtype and row.shape == known[key].shape
            assert same, f"a row in another form in {path}"
            assert torch.equal(row, known[key]), f"a wrong row in {path}"
    return int(is_right.sum())
