"""The command line: transfer against training from scratch, on one set of images."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from sktransfer._study import study


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = argparse.ArgumentParser(
        prog="python -m sktransfer",
        description="Compare a pretrained ResNet with a small CNN trained from zero, "
        "on the same images and seeds.",
    )
    parser.add_argument(
        "--data",
        default="digits",
        help="digits, cifar10, or a folder with one sub-folder a class, or with such "
        "folders train/ and test/ (default: %(default)s)",
    )
    parser.add_argument(
        "--n-train",
        type=int,
        help="training images (default: 100 digits; all of CIFAR-10; 80%% of a folder)",
    )
    parser.add_argument(
        "--n-test", type=int, help="test images (default: all that remain)"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="fits per model (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("sktransfer_study"),
        help="folder for report.html, pictures and results.json (default: %(default)s)",
    )
    parser.add_argument(
        "--backbone",
        default="mini_resnet18",
        help="pretrained network (default: %(default)s)",
    )
    parser.add_argument(
        "--max-epochs",
        type=int,
        help="epochs of both models (default: 18; transfer 5, except on digits, where "
        "every stage learns for 18 and nothing is mirrored)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; return 0, or 2 where the options or the data do not serve."""
    words = sys.argv[1:] if argv is None else list(argv)
    options = _parser().parse_args(words)
    try:
        study(
            options.data,
            n_train=options.n_train,
            n_test=options.n_test,
            n_seeds=options.seeds,
            out=options.out,
            backbone=options.backbone,
            max_epochs=options.max_epochs,
            command=shlex.join(["python", "-m", "sktransfer", *words]),
        )
    except KeyboardInterrupt:
        print(
            "python -m sktransfer: interrupted; finished fits are in "
            f"{options.out / 'results.json'}, if there are any",
            file=sys.stderr,
        )
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"python -m sktransfer: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
