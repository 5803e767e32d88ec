"""Model files: tensors and a description of them, as one safetensors file with a hash.

Any tool for safetensors opens such a file. Its metadata are `format`, `version`,
`kind`, `content` (JSON, see :mod:`~sktransfer._files.encoding`), `card` (text for
people) and `sha256`, of all of these and of every tensor.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sktransfer._files.encoding import Codecs, Decoder, Encoder, EncodingError
from sktransfer._files.headers import (
    LENGTH_BYTES,
    MOST_HEADER_BYTES,
    MOST_TENSORS,
    Entry,
    Header,
    HeaderError,
    parse_json,
    read_exactly,
    read_header,
)
from sktransfer._files.opening import HASHED_AT_A_TIME, NotAFileError, open_regular
from sktransfer._files.packing import Packed, pack
from sktransfer._files.replacing import replace_file, write_all

FORMAT = "sktransfer"
VERSION = 1
METADATA = {"format", "version", "kind", "content", "card", "sha256"}

# What the bytes of arrays in the description are called among the tensors, and how many
# there may be; they are read before the weights are compared with the network.
ARRAY = "array."
MOST_ARRAY_BYTES = 64 * 2**20

# What the system says of a name at which no file can be, however small.
NAMES_NO_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS}

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class ModelFileError(ValueError):
    """A model file that cannot be read: damaged, foreign, or of a newer version."""

    __module__ = "sktransfer"


class Form(NamedTuple):
    """Dtype and shape of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]


def write_model_file(
    path: Path,
    kind: str,
    content: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    codecs: Codecs,
    card: str = "",
) -> None:
    """Write a model file, or replace an old one once the new one is on the disk.

    Parameters
    ----------
    path : Path
        Of the file.

    kind : str
        What it is.

    content : mapping of str to object
        The description, of encodable values.

    tensors : mapping of str to tensor
        On any device.

    codecs : mapping of str to Codec
        For values of other kinds.

    card : str, default=""
        Text for people.

    Raises
    ------
    EncodingError
        If a value or a tensor is of a kind that such files do not hold, or there is
        more than can be read again.
    OSError
        If the file cannot be written; the old one is still there.
    """
    taken = [name for name in tensors if name.startswith(ARRAY)]
    if taken:
        raise EncodingError(f"tensor of the name {taken[0]!r}")
    encoder = Encoder(codecs)
    text = json.dumps(encoder.encode(dict(content)), allow_nan=False)
    _check_amount(text, encoder.arrays, len(tensors))
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "kind": kind,
        "content": text,
        "card": card,
    }
    packed = {
        **{name: _pack(name, tensor) for name, tensor in tensors.items()},
        **{
            f"{ARRAY}{i}": Packed("U8", array.shape, array.data)
            for i, array in enumerate(encoder.arrays)
        },
    }
    digest = _begin_hash(metadata)
    for name in sorted(packed):
        tensor = packed[name]
        _add_entry(digest, name, tensor.dtype, tensor.shape)
        digest.update(tensor.content)
    header, contents = pack({**metadata, "sha256": digest.hexdigest()}, packed)
    _parse_back(header[LENGTH_BYTES:])
    try:
        with replace_file(path) as file:
            write_all(file, [header, *contents])
    except OSError as error:
        if error.errno in NAMES_NO_PLACE or isinstance(error, NotAFileError):
            raise
        n_bytes = sum(part.nbytes for part in contents) + len(header)
        why = f"{error.strerror}; {n_bytes:,} bytes were to be written"
        raise OSError(error.errno, why, str(path)) from error


class ModelFile:
    """An open model file.

    Attributes
    ----------
    path : Path
        Where it is.

    card, sha256 : str
        As they were written.

    content : dict
        The description; its arrays have been read, but not yet hashed.

    forms : dict of str to Form
        The tensors that it holds.

    n_bytes : int
        Its size.
    """

    def __init__(self, path: Path, file: FileIO, kind: str, codecs: Codecs) -> None:
        self.path, self._file = path, file
        self._header = _read_own_header(path, file)
        metadata = self._header.metadata
        if metadata["kind"] != kind:
            raise ModelFileError(
                f"{str(path)!r} holds a {metadata['kind'][:40]!r}, and no {kind!r}."
            )
        self.card = metadata["card"]
        self.sha256 = metadata["sha256"]
        self.n_bytes = os.fstat(file.fileno()).st_size
        self.forms = {
            name: Form(DTYPES[entry.dtype], entry.shape)
            for name, entry in self._header.tensors.items()
            if not name.startswith(ARRAY)
        }
        content = Decoder(codecs, self._read_arrays()).decode(
            parse_json(metadata["content"].encode("utf-8", "surrogatepass"))
        )
        if not isinstance(content, dict):
            raise EncodingError("its description is not a mapping")
        self.content: dict[str, Any] = content

    def read_tensors(self) -> dict[str, torch.Tensor]:
        """Read every tensor, and compare the hash of the file.

        Raises
        ------
        ModelFileError
            If a byte is not what was written.
        """
        digest = _begin_hash(self._header.metadata)
        tensors = {}
        for name in sorted(self._header.tensors):
            entry = self._header.tensors[name]
            _add_entry(digest, name, entry.dtype, entry.shape)
            content = self._read(entry)
            digest.update(content)
            if name in self.forms:
                tensors[name] = _unpack(content, entry)
        if digest.hexdigest() != self.sha256:
            raise ModelFileError(
                f"{str(self.path)!r} is damaged: its content does not have the SHA-256 "
                "that was written into it."
            )
        return tensors

    def _read_arrays(self) -> list[bytearray]:
        entries = self._header.tensors
        names = [f"{ARRAY}{i}" for i in range(len(entries) - len(self.forms))]
        if any(name not in entries or entries[name].dtype != "U8" for name in names):
            raise EncodingError("its arrays are not numbered")
        if sum(entries[name].n_bytes for name in names) > MOST_ARRAY_BYTES:
            raise EncodingError(f"its arrays have more than {MOST_ARRAY_BYTES:,} bytes")
        return [self._read(entries[name]) for name in names]

    def _read(self, entry: Entry) -> bytearray:
        self._file.seek(entry.begin)
        return read_exactly(self._file, entry.n_bytes)


@contextmanager
def open_model_file(
    path: Path, kind: str, codecs: Codecs, sha256: str | None = None
) -> Iterator[ModelFile]:
    """Open a model file and read its description; errors name the file.

    Parameters
    ----------
    path : Path
        Of a file that :func:`write_model_file` wrote.

    kind : str
        What it must be.

    codecs : mapping of str to Codec
        For values of other kinds than those of :class:`Decoder`.

    sha256 : str or None, default=None
        Hash that the whole file must have, if it is known.

    Yields
    ------
    ModelFile

    Raises
    ------
    ModelFileError
        If it is none, is damaged, is of a newer version or of another kind.
    OSError
        If it cannot be opened or read.
    """
    try:
        file = open_regular(path)
    except NotAFileError as error:
        raise ModelFileError(f"{str(path)!r}: {error.strerror}.") from None
    with ExitStack() as stack:
        stack.enter_context(file)
        if sha256 is not None:
            file = stack.enter_context(_copy_if_known(path, file, sha256))
        try:
            opened = ModelFile(path, file, kind, codecs)
        except ModelFileError:
            raise
        except (HeaderError, EncodingError) as error:
            why = _tell_pickle(file) or f"or is damaged: {error}"
            raise ModelFileError(
                f"{str(path)!r} is not a model of sktransfer, {why}."
            ) from None
        try:
            yield opened
        except HeaderError as error:
            raise ModelFileError(f"{str(path)!r} is damaged: {error}.") from None


def _tell_pickle(file: FileIO) -> str:
    """Say so if a file looks like a pickle, compressed or not, or like a torch file."""
    file.seek(0)
    start = file.read(2) or b""
    if start[:1] == b"\x80" or start in (b"x\x9c", b"x^", b"x\xda"):
        return (
            "but looks like a pickle, which can run code. If you trust where it is "
            "from, load it with joblib.load or pickle"
        )
    if start == b"PK":
        return "but looks like a file of torch, which is for weights= of an estimator"
    return ""


def _copy_if_known(path: Path, file: FileIO, sha256: str) -> FileIO:
    """Copy a file to where nobody else can change it, if it has this hash.

    Raises
    ------
    ModelFileError
        If it has another.
    """
    digest = hashlib.sha256()
    # It has no name.
    copy: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 the caller closes it
    while chunk := file.read(HASHED_AT_A_TIME):
        digest.update(chunk)
        write_all(copy, [chunk])
    if digest.hexdigest() == sha256.strip().lower():
        own: FileIO = copy
        return own
    copy.close()
    raise ModelFileError(
        f"{str(path)!r} has the SHA-256 {digest.hexdigest()}, not the {sha256!r} that "
        "was asked for: it is another file, or was changed."
    )


def _read_own_header(path: Path, file: FileIO) -> Header:
    """Read a header, and check that it is of this format and version."""
    header = read_header(file)
    if header.metadata.get("format") != FORMAT:
        raise HeaderError("it is a safetensors file of another origin")
    version = header.metadata.get("version", "")
    if version.isdecimal() and len(version) < 10 and int(version) > VERSION:
        raise ModelFileError(
            f"{str(path)!r} is of a newer release: it has format {version}, and this "
            f"one reads up to {VERSION}. Install a newer sktransfer."
        )
    if version != str(VERSION) or set(header.metadata) != METADATA:
        raise HeaderError("its metadata are not those of a model")
    unknown = {e.dtype for e in header.tensors.values()} - set(DTYPES)
    if unknown:
        raise HeaderError(f"it holds numbers of kind {', '.join(sorted(unknown))}")
    return header


def _check_amount(text: str, arrays: Sequence[np.ndarray], n_tensors: int) -> None:
    """Raise an EncodingError if a file would hold more than is read again."""
    if len(arrays) + n_tensors > MOST_TENSORS:
        raise EncodingError(f"more than {MOST_TENSORS:,} arrays")
    if sum(array.nbytes for array in arrays) > MOST_ARRAY_BYTES:
        raise EncodingError(f"arrays of more than {MOST_ARRAY_BYTES:,} bytes")
    _parse_back(text.encode())


def _parse_back(text: bytes) -> None:
    """Raise an EncodingError if a text cannot be parsed again."""
    if len(text) > MOST_HEADER_BYTES:
        raise EncodingError(f"text of more than {MOST_HEADER_BYTES:,} bytes")
    try:
        parse_json(text)
    except HeaderError as error:
        raise EncodingError(f"so much, since {error}") from None


def _begin_hash(metadata: Mapping[str, str]) -> Any:
    """Begin the hash of a file with its metadata."""
    digest = hashlib.sha256()
    for name in sorted(METADATA - {"sha256"}):
        text = metadata[name].encode("utf-8", "surrogatepass")
        digest.update(f"{name} {len(text)}:".encode() + text)
    return digest


def _add_entry(digest: Any, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    """Add to a hash what the header says of a tensor."""
    entry = json.dumps([name, dtype, list(shape)]).encode()
    digest.update(f"{len(entry)}:".encode() + entry)


def _pack(name: str, tensor: torch.Tensor) -> Packed:
    """Take the bytes of a tensor on any device, in the usual order."""
    if tensor.dtype not in NAMES or tensor.layout != torch.strided:
        raise EncodingError(f"{name}, a tensor of {tensor.dtype}, {tensor.layout}")
    return Packed(NAMES[tensor.dtype], tuple(tensor.shape), take_bytes(tensor))


def take_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a tensor's numbers, in the order of their indices."""
    flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    content: memoryview = flat.numpy().data
    return content


def _unpack(content: bytearray, entry: Entry) -> torch.Tensor:
    """Return the tensor of these bytes."""
    dtype = DTYPES[entry.dtype]
    if not content:
        return torch.empty(entry.shape, dtype=dtype)
    if dtype == torch.bool and max(content) > 1:
        raise HeaderError("it holds truth values that are neither 0 nor 1")
    return torch.frombuffer(content, dtype=dtype).reshape(entry.shape)
