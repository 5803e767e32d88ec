"""Image sets: CIFAR-10, a folder with one sub-folder per class, drawn shapes."""

from sktransfer._images.pictures.opening import BadImageError
from sktransfer._images.streams.lazy import LazyImages
from sktransfer.datasets._check import ImageProblem, check_images
from sktransfer.datasets._cifar10 import fetch_cifar10
from sktransfer.datasets._drawn import make_shapes
from sktransfer.datasets._folders import load_image_folder

__all__ = [
    "BadImageError",
    "ImageProblem",
    "LazyImages",
    "check_images",
    "fetch_cifar10",
    "load_image_folder",
    "make_shapes",
]
