"""Damage done to files of pictures."""

from __future__ import annotations

import zlib
from random import Random

# Where files say how long, wide and deep they are.
N_HEADER = 200

# Numbers that lengths and counts of 1 to 8 bytes are replaced with.
LENGTHS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def mutate(rng: Random, originals: list[bytes], others: list[bytes]) -> bytes:
    """Return one of some files with one to three damages.

    `others` are files of any format, for parts that do not belong there.
    """
    content = bytearray(rng.choice(originals))
    is_png = content.startswith(b"\x89PNG")
    for _ in range(rng.randint(1, 3)):
        damage = rng.choice(DAMAGES)
        donor = rng.choice(rng.choice((originals, others)))
        content = bytearray(damage(rng, content, donor)) or bytearray(1)
    if is_png and rng.random() < 0.6:
        content = _mend_checks(content)
    return bytes(content)


def _mend_checks(content: bytearray) -> bytearray:
    """Write the right checksum behind every chunk, or all damage would end there."""
    place = 8
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        if end + 4 > len(content):
            break
        content[end : end + 4] = zlib.crc32(content[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return content


def _choose_part(rng: Random, content: bytes | bytearray) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(len(content), start + rng.randint(1, 64))


def _flip_bits(rng: Random, content: bytearray, donor: bytes) -> bytes:
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _overwrite(rng: Random, content: bytearray, donor: bytes) -> bytes:
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return content


def _overwrite_header(rng: Random, content: bytearray, donor: bytes) -> bytes:
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(min(N_HEADER, len(content)))] = rng.randrange(256)
    return content


def _change_length(rng: Random, content: bytearray, donor: bytes) -> bytes:
    n_bytes, order = rng.choice((1, 2, 4, 4, 8)), rng.choice(("big", "little"))
    number = rng.choice(LENGTHS) % 256**n_bytes
    start = rng.randrange(min(N_HEADER, len(content)))
    content[start : start + n_bytes] = number.to_bytes(n_bytes, order)
    return content


def _change_digits(rng: Random, content: bytearray, donor: bytes) -> bytes:
    """Put other numbers where text has some, as in headers of PPM files."""
    places = [i for i, c in enumerate(content[:40]) if 48 <= c < 58]
    if not places:
        return _change_length(rng, content, donor)
    place = rng.choice(places)
    numbers = (b"0", b"-1", b"9", b"999", b"4000", b"65536", b"99999999999", b"1.5")
    content[place : place + 1] = rng.choice(numbers)
    return content


def _cut(rng: Random, content: bytearray, donor: bytes) -> bytes:
    return content[: rng.randrange(len(content)) + 1]


def _remove(rng: Random, content: bytearray, donor: bytes) -> bytes:
    start, end = _choose_part(rng, content)
    return content[:start] + content[end:]


def _duplicate(rng: Random, content: bytearray, donor: bytes) -> bytes:
    start, end = _choose_part(rng, content)
    return content[:end] + content[start:end] * rng.choice((1, 1, 50)) + content[end:]


def _insert(rng: Random, content: bytearray, donor: bytes) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.randint(1, 32)) + content[start:]


def _swap(rng: Random, content: bytearray, donor: bytes) -> bytes:
    a, b, c, d = sorted((*_choose_part(rng, content), *_choose_part(rng, content)))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def _splice(rng: Random, content: bytearray, donor: bytes) -> bytes:
    return content[: rng.randrange(len(content)) + 1] + donor[_start_of(rng, donor) :]


def _start_of(rng: Random, donor: bytes) -> int:
    return rng.choice((0, rng.randrange(len(donor))))


def _append(rng: Random, content: bytearray, donor: bytes) -> bytes:
    return content + rng.choice((rng.randbytes(rng.randint(1, 300)), donor))


DAMAGES = (
    _flip_bits,
    _overwrite,
    _overwrite_header,
    _change_length,
    _change_digits,
    _cut,
    _remove,
    _duplicate,
    _insert,
    _swap,
    _splice,
    _append,
)
