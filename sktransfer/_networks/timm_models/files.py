"""Weights of timm's models: from a file, from the hub's cache, or from the hub."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import nn

from sktransfer._files.opening import hash_file
from sktransfer._networks.device import fork_rng
from sktransfer._networks.timm_models.build import CPU, build_trial, find_trial_device
from sktransfer._networks.timm_models.cuts import Body
from sktransfer._networks.timm_models.make import make_timm
from sktransfer._networks.weights.checkpoints import open_weights, read_nested
from sktransfer._networks.weights.naming import State, find_network
from sktransfer._networks.weights.sources import (
    WAYS_OUT,
    WHAT_THEY_COST,
    identify_file,
    open_download,
)

# As timm looks for them.
FILES = ("model.safetensors", "pytorch_model.bin")

# An answer takes a fraction of this. Without a network, the hub's own client tries for
# three quarters of a minute.
HUB_SECONDS = 10


@dataclass(frozen=True)
class HubWeights:
    """The weights that timm has for a model, in the hub's cache or on the hub."""

    model: str

    def identity(self) -> Hashable:
        """Identify the file in the cache in its present state."""
        file = _find_file(timm.get_pretrained_cfg(self.model))
        return (self.model, timm.__version__, file and identify_file(file))

    def is_local(self) -> bool:
        """Return whether the file was downloaded."""
        return _find_file(timm.get_pretrained_cfg(self.model)) is not None

    def read(self) -> State:
        """Read the weights, under timm's names.

        Raises
        ------
        ValueError
            If timm has no weights for the model.
        OSError
            If they are not on this machine and cannot be downloaded.
        """
        return _get_pretrained(self.model)


def translate(
    name: str, state: State, called: str, image_size: int | None = None
) -> dict[str, torch.Tensor]:
    """Give the tensors of a file the names that they have in the stages.

    Parameters
    ----------
    name : str
        Of the model, as timm knows it.

    state : mapping of str to tensor
        What the file holds, under timm's names or under those of the original that timm
        can translate.

    called : str
        What the user passed as weights, for error messages.

    image_size : int or None, default=None
        Height and width in pixels for which the network is built, if it has to know.
        Position embeddings are resized to it.

    Returns
    -------
    dict of str to tensor

    Raises
    ------
    ValueError
        If they do not fit.
    """
    with fork_rng(0, CPU):
        network = make_timm(name, image_size)
    names = network.state_dict().keys()
    if names <= state.keys():
        return {key: state[key] for key in names}
    fitted = _fit(name, state, called, image_size)
    return {key: fitted[_find_timm_name(network, key)] for key in names}


def _find_timm_name(network: nn.Module, key: str) -> str:
    """Return the name that timm gives to a tensor of the stages."""
    stage, _, rest = key.partition(".")
    if isinstance(network.get_submodule(stage), Body):
        rest = rest.removeprefix("model.")
    return rest


def _get_pretrained(name: str) -> State:
    """Let timm adapt its weights, which are read from the disk if they are there."""
    cfg = timm.get_pretrained_cfg(name)
    if not cfg.hf_hub_id and (not cfg.url or cfg.custom_load):
        tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise ValueError(
            f"weights='auto': timm has no weights for backbone='timm/{name}'"
            f"{', only for ' + ', '.join(tags) if tags else ''}; pass the path of a "
            "file, or weights=None for random ones."
        )
    file = _find_file(cfg)
    try:
        state = _read_own(cfg, file)
        overlay = {"state_dict": state}
        with fork_rng(0, CPU), CPU:
            model = timm.create_model(
                name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay
            )
    except Exception as error:
        raise OSError(_explain(name, cfg, file, error)) from None
    loaded: State = model.state_dict()
    return loaded


def _read_own(cfg: Any, file: Path | None) -> dict[str, Any]:
    """Read the weights of a model ourselves; timm gets nothing but tensors."""
    if not cfg.hf_hub_id:
        path = _find_download(cfg.url)
        with open_download(cfg.url, path) as opened:
            return read_nested(path, opened)
    path = file or _download(cfg.hf_hub_id)
    with open_weights(path) as opened:
        _check_blob(path, opened)
        return read_nested(path, opened)


def _find_download(url: str) -> Path:
    """Return where torch keeps a file of this address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name


def _check_blob(path: Path, file: FileIO) -> None:
    """Compare the SHA-256 of a file with the name that the hub's cache gives it.

    There, a weight file is a link to one that is named by its SHA-256. Where links
    cannot be made, as on some Windows, nothing is known to compare with.
    """
    known = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", known) and hash_file(file) != known:
        raise OSError(f"its SHA-256 is not the {known[:12]}... that it had on the hub")


def _find_file(cfg: Any) -> Path | None:
    """Find weights on the disk; the hub is not asked whether they are new."""
    if not cfg.hf_hub_id:
        path = _find_download(cfg.url) if cfg.url else None
        return path if path and os.path.lexists(path) else None
    repository, _, revision = cfg.hf_hub_id.partition("@")
    for file in FILES:
        found = huggingface_hub.try_to_load_from_cache(
            repository, file, revision=revision or None
        )
        if isinstance(found, str):
            return Path(found)
    return None


def _download(hub_id: str) -> Path:
    """Download weights into the hub's cache."""
    _knock()
    repository, _, revision = hub_id.partition("@")
    for file in FILES:
        try:
            found = huggingface_hub.hf_hub_download(
                repository, file, revision=revision or None
            )
        except LocalEntryNotFoundError:  # the network failed; what is there is unknown
            raise
        except EntryNotFoundError:
            continue
        return Path(found)
    raise FileNotFoundError(f"{repository} has none of {', '.join(FILES)}")


def _knock() -> None:
    """Raise an error, soon, if the hub cannot be reached."""
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    huggingface_hub.get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)


def _explain(name: str, cfg: Any, file: Path | None, error: Exception) -> str:
    """Say why weights could not be had, and what can be done."""
    what = f"weights='auto' of backbone='timm/{name}'"
    why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:600]}"
    if file is not None:
        also = f" and {file.resolve()}" if file.is_symlink() else ""
        return (
            f"{what}: {file} could not be loaded ({why}). If it is damaged, delete it"
            f"{also}, and the next fit downloads it again."
        )
    if cfg.hf_hub_id:
        folder = Path(constants.HF_HUB_CACHE) / (
            "models--" + cfg.hf_hub_id.partition("@")[0].replace("/", "--")
        )
        where = f"{constants.ENDPOINT}/{cfg.hf_hub_id}"
        called = FILES[0]
    else:
        folder = _find_download(cfg.url)
        where, called = cfg.url, folder.name
    return (
        f"{what} are not on this machine ({folder}) and could not be downloaded from "
        f"{where} ({why}). Ways out: {WAYS_OUT}; download {called} from there on "
        f"another machine and pass its path, weights='.../{called}'; or pass "
        f"weights=None for random weights. {WHAT_THEY_COST}"
    )


def _fit(name: str, state: State, called: str, image_size: int | None) -> State:
    """Translate the names in a file, resize position embeddings, and check both."""
    model = build_trial(name, image_size)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    state, _ = find_network(state, shapes, [{key: key for key in shapes}])
    try:
        fitted = _translate(model, state)
    except Exception as error:
        raise ValueError(
            f"weights={called} do not fit backbone='timm/{name}': timm could not "
            f"translate them ({type(error).__name__}: {error})."
        ) from None
    wanted = model.state_dict()
    with fork_rng(0, CPU), find_trial_device(name):
        # Its own head is no mistake in a file.
        known = timm.create_model(name).state_dict().keys()
    problems = _list_problems(wanted, fitted, known)
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"weights={called} do not fit backbone='timm/{name}': "
            f"{'; '.join(problems[:5])}{more}."
        )
    return {key: fitted.get(key, torch.tensor(0)) for key in wanted}


def _translate(model: nn.Module, state: State) -> State:
    """Let timm's own code for this family adapt the weights to a model."""
    module = inspect.getmodule(type(model))
    adapt = getattr(module, "checkpoint_filter_fn", None)
    if adapt is None:
        return state
    takes_model = len(inspect.signature(adapt).parameters) > 1
    adapted: State = adapt(dict(state), model) if takes_model else adapt(dict(state))
    return adapted


def _list_problems(wanted: State, found: State, known: Collection[str]) -> list[str]:
    """List the tensors that are missing, too many, or of another shape."""
    counts = {key for key in wanted if key.endswith("num_batches_tracked")}
    return [
        *(f"missing {key}" for key in wanted if key not in found and key not in counts),
        *(f"unexpected {key}" for key in found if key not in known),
        *(
            f"{key} has shape {tuple(found[key].shape)}, not {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in found and found[key].shape != tensor.shape
        ),
    ]
