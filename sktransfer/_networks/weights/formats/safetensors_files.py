"""Files of safetensors: their tensors, read within bounds."""

from __future__ import annotations

from io import FileIO

import torch

from sktransfer._files.headers import HeaderError, read_header
from sktransfer._networks.weights.formats.parts import Part, RefusedError, read_numbers

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(file: FileIO) -> dict[str, torch.Tensor]:
    """Read every tensor of a file of safetensors.

    Raises
    ------
    RefusedError
        If its header is too large, or claims what is not there.
    """
    try:
        header = read_header(file)
    except HeaderError as error:
        raise RefusedError(f"{error}.") from None
    tensors = {}
    for name, entry in header.tensors.items():
        part = Part(entry.begin, entry.n_bytes)
        numbers = read_numbers(file, part, DTYPES[entry.dtype])
        tensors[name] = numbers.reshape(entry.shape)
    return tensors
