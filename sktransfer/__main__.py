"""The command line: compare transfer with training from scratch, on any images."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sktransfer._study.study import plan_study, study


def _build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m sktransfer",
        description="Compare a pretrained network with a small CNN trained from "
        "scratch, on the same images and seeds.",
    )
    parser.add_argument(
        "--data",
        default="digits",
        help="digits, cifar10, a folder with one subfolder per class, or a folder "
        "that contains two of these, train/ and test/ (default: %(default)s)",
    )
    parser.add_argument(
        "--n-train",
        type=int,
        help="number of training images (default: 100 digits; all of CIFAR-10; at most "
        "80%% of a folder, or all of its train/)",
    )
    parser.add_argument(
        "--n-test",
        type=int,
        help="number of test images (default: all that remain)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="number of fits per model (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("sktransfer_study"),
        help="folder for report.html, its pictures and results.json (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--backbone",
        help="pretrained network (default: efficientnet_lite0 for a folder; for digits "
        "and cifar10 mini_resnet18, which sees 32 pixels; both need no network "
        "connection; resnet50, timm/NAME and others download ImageNet weights)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        help="height and width in pixels that the pretrained network sees (default: "
        "what it was made for)",
    )
    parser.add_argument(
        "--resize",
        choices=("crop", "pad", "squash"),
        help="what both models do with images that are no squares: keep the centre, "
        "fill the sides, or change the proportions (default: as the estimators do)",
    )
    parser.add_argument(
        "--max-epochs",
        type=int,
        help="epochs of both models (default: 18 for scratch and 5 for transfer; on "
        "digits 18 for both, where every stage learns and nothing is mirrored)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; return 0, 2 after an error, or 130 after Ctrl-C."""
    words = sys.argv[1:] if argv is None else list(argv)
    options = _build_parser().parse_args(words)
    results = options.out / "results.json"
    try:
        plan = plan_study(
            options.data,
            n_train=options.n_train,
            n_test=options.n_test,
            n_seeds=options.seeds,
            out=options.out,
            backbone=options.backbone,
            max_epochs=options.max_epochs,
            image_size=options.image_size,
            resize=options.resize,
        )
    except KeyboardInterrupt:
        return _end("interrupted before the first fit", 130)
    except (ValueError, OSError, ImportError) as error:
        return _end(str(error), 2)
    try:
        study(plan, command=quote_command(words, options.data))
    except KeyboardInterrupt:
        return _end(f"interrupted. {_describe_saved_fits(results)}", 130)
    except (FloatingPointError, OSError) as error:
        return _end(f"{error} {_describe_saved_fits(results)}", 2)
    return 0


def quote_command(words: Sequence[str], data: str) -> str:
    """Return the command with these options, quoted for the shell of this system."""
    command = ["python", "-m", "sktransfer", *words]
    folder = os.environ.get("SKTRANSFER_DATA") if data == "cifar10" else None
    if os.name == "nt":
        line = subprocess.list2cmdline(command)
        return line if not folder else f'set "SKTRANSFER_DATA={folder}" & {line}'
    line = shlex.join(command)
    return line if not folder else f"SKTRANSFER_DATA={shlex.quote(folder)} {line}"


def _describe_saved_fits(results: Path) -> str:
    """Return a sentence on where the finished fits are, if there are any."""
    return (
        f"Finished fits are in {results}." if results.exists() else "No fit was saved."
    )


def _end(why: str, code: int) -> int:
    """Print in one line why the study ended, and return the exit code."""
    print(f"python -m sktransfer: {why}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
