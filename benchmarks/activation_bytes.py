"""How many bytes the activation of one image takes before the stages that learn.

    python benchmarks/activation_bytes.py

In bfloat16; float32 takes twice as much. They follow from the networks and are exact.
"""

from __future__ import annotations

import numpy as np
import torch

from sktransfer import FeatureExtractor

# Height and width that each network sees.
SEEN = {"efficientnet_lite0": 288, "mini_resnet18": 32}


def main() -> None:
    """Print the bytes by backbone and unfreeze_depth."""
    for backbone, side in SEEN.items():
        image = np.full((1, side, side, 3), 128, np.uint8)
        stages = FeatureExtractor(backbone).fit(image).stages_
        for depth in range(len(stages.names) - 1):
            with torch.inference_mode():
                batch = torch.from_numpy(image)
                activation = stages.encode(batch, stages.n_frozen(depth))
            size = 2 * activation.numel()
            print(f"{backbone}, unfreeze_depth={depth}: {size:,} bytes")
        print(f"{backbone}, as a uint8 array: {image.size:,} bytes")


if __name__ == "__main__":
    main()
