"""Writes model files as somebody would who means harm: anything, with a right hash.

It knows the format by itself: a change of the format fails tests here.
"""

import hashlib
import json
from typing import Any, NamedTuple


class Tensor(NamedTuple):
    """A tensor as the header describes it, and its bytes."""

    dtype: str
    shape: list[int]
    content: bytes


def join(header: Any, payload: bytes = b"") -> bytes:
    """Put a header, as JSON or as it is, before bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def take_apart(packed: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the metadata and the tensors of a file."""
    n_bytes = int.from_bytes(packed[:8], "little")
    header, payload = json.loads(packed[8 : 8 + n_bytes]), packed[8 + n_bytes :]
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = Tensor(entry["dtype"], entry["shape"], payload[begin:end])
    return metadata, tensors


def put_together(metadata: dict[str, str], tensors: dict[str, Tensor]) -> bytes:
    """Return a file with these, and with the hash that belongs to them."""
    named = {**metadata, "sha256": compute_hash(metadata, tensors)}
    header: dict[str, Any] = {"__metadata__": named}
    at, payload = 0, []
    for name, (dtype, shape, content) in tensors.items():
        offsets = [at, at + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        at += len(content)
        payload.append(content)
    return join(header, b"".join(payload))


def compute_hash(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Compute the hash that a file has within it."""
    digest = hashlib.sha256()
    for name in ("card", "content", "format", "kind", "version"):
        text = metadata.get(name, "").encode("utf-8", "surrogatepass")
        digest.update(f"{name} {len(text)}:".encode() + text)
    for name in sorted(tensors):
        dtype, shape, content = tensors[name]
        entry = json.dumps([name, dtype, list(shape)]).encode()
        digest.update(f"{len(entry)}:".encode() + entry + content)
    return digest.hexdigest()


def forge(packed: bytes, change: Any) -> bytes:
    """Change the description and the tensors of a file, in place; hash it again."""
    metadata, tensors = take_apart(packed)
    content = json.loads(metadata["content"])
    change(content, tensors)
    return put_together({**metadata, "content": json.dumps(content)}, tensors)
