"""What a model file may hold besides plain values: a closed list, and no code."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sktransfer._files.encoding import Codec, Codecs
from sktransfer._images.views import DrawnViews
from sktransfer._networks.backbones.record import Backbone

if TYPE_CHECKING:
    from sktransfer._activations.cache import ActivationCache, CacheInfo

# What a file is that holds an estimator.
KIND = "estimator"

# Bytes; a cache in memory of a file's choice is not larger.
MOST_CACHE_BYTES = 2**40

# Optimizers of torch that take learning rates per stage.
OPTIMIZERS = (
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
)
DTYPES = ("float64", "float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class OwnBackbone:
    """Stands in a file for a `Backbone` of the user's, which is code."""

    name: str


def list_codecs() -> Codecs:
    """List the kinds of objects that model files hold, by name."""
    import torch

    from sktransfer._activations.cache import ActivationCache, CacheInfo

    return {
        "optimizer": _make_choice({n: getattr(torch.optim, n) for n in OPTIMIZERS}),
        "dtype": _make_choice({name: getattr(torch, name) for name in DTYPES}),
        "views": Codec(
            lambda value: type(value) is DrawnViews,
            dataclasses.asdict,
            lambda options: DrawnViews(**options),
        ),
        "cache": Codec(
            lambda value: type(value) is ActivationCache,
            _pack_cache,
            _unpack_cache,
        ),
        "cache_info": Codec(
            lambda value: type(value) is CacheInfo,
            list,
            _unpack_info,
        ),
        "backbone": Codec(
            lambda value: isinstance(value, (Backbone, OwnBackbone)),
            lambda value: value.name,
            lambda name: OwnBackbone(str(name)),
        ),
    }


def _make_choice(known: dict[str, Any]) -> Codec:
    """Encode each of some objects by its name."""
    names = {id(item): name for name, item in known.items()}
    return Codec(
        lambda value: names.get(id(value)) is not None,
        lambda value: names[id(value)],
        lambda name: known[name],
    )


def _pack_cache(cache: ActivationCache) -> int | str:
    """Keep the size of a cache; what it holds, and its folder, belong to a machine."""
    size: int | str = cache.max_bytes
    return size


def _unpack_cache(max_bytes: int | str) -> ActivationCache:
    from sktransfer._activations.cache import ActivationCache

    if isinstance(max_bytes, int) and max_bytes > MOST_CACHE_BYTES:
        raise ValueError("too many bytes")
    return ActivationCache(max_bytes)


def _unpack_info(values: list[Any]) -> CacheInfo:
    from sktransfer._activations.cache import CacheInfo

    info = CacheInfo(*values)
    counts = info._replace(seconds_saved=0)
    if any(type(n) is not int for n in counts) or type(info[3]) not in (int, float):
        raise TypeError("numbers were expected")
    return info
