"""What a network computes for a drawn image: by this it is known again.

Names and shapes of weights do not tell: a stride may have changed.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from sktransfer._images.preprocessing import Preprocess
from sktransfer._images.shapes import Shape
from sktransfer._networks.device import autocast
from sktransfer._networks.stages import Stages

# Of the largest output: between processors, and between TF32 and float32. Outputs that
# are all smaller than the scale are mostly what rounding leaves.
OUTPUT_TOLERANCE, SMALLEST_SCALE = 0.02, 1e-3

# More take long on a CPU, and a file may name any size.
MOST_SEEN = 600**2


def check_outputs(stages: Stages, image_shape: Shape) -> np.ndarray | None:
    """Compute the outputs for a drawn image, by which a network is known again.

    Returns
    -------
    ndarray of shape (n_outputs,), float32, or None
        None if the network sees so large an image that this would take long.
    """
    preprocess = stages.preprocess
    assert isinstance(preprocess, Preprocess)
    height, width = preprocess.image_size or image_shape[:2]
    if max(height * width, math.prod(image_shape[:2])) > MOST_SEEN:
        return None
    drawn = np.random.default_rng(0).integers(0, 256, (1, *image_shape), np.uint8)
    device = preprocess.mean.device
    was_training = stages.training
    stages.eval()
    with torch.inference_mode(), autocast("float32", device):
        outputs = stages(torch.from_numpy(drawn).to(device))[0]
    stages.train(was_training)
    found: np.ndarray = outputs.float().cpu().numpy()
    return found


def is_close(found: np.ndarray, saved: np.ndarray) -> bool:
    """Return whether outputs differ by no more than kernels and number formats do."""
    if found.shape != saved.shape:
        return False
    scale = max(SMALLEST_SCALE, float(np.abs(saved).max(initial=0)))
    return bool(np.abs(found - saved).max(initial=0) <= OUTPUT_TOLERANCE * scale)
