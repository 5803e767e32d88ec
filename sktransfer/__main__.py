"""The command line: transfer against training from scratch, on one set of images."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sktransfer._study.study import plan_study, study


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
        help="training images (default: 100 digits; all of CIFAR-10; at most 80%% of a "
        "folder)",
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
        help="pretrained network (default: %(default)s, the bundled one, which sees 32 "
        "pixels; resnet50 and others download ImageNet weights)",
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
        )
    except KeyboardInterrupt:
        return _ended("interrupted before the first fit", 130)
    except (ValueError, OSError, ImportError) as error:
        return _ended(str(error), 2)
    try:
        study(plan, command=command_line(words, options.data))
    except KeyboardInterrupt:
        return _ended(f"interrupted. {_kept(results)}", 130)
    except (FloatingPointError, OSError) as error:
        return _ended(f"{error} {_kept(results)}", 2)
    return 0


def command_line(words: Sequence[str], data: str) -> str:
    """The command with these options, as the shell of this system takes it."""
    command = ["python", "-m", "sktransfer", *words]
    folder = os.environ.get("SKTRANSFER_DATA") if data == "cifar10" else None
    if os.name == "nt":
        told = subprocess.list2cmdline(command)
        return told if not folder else f'set "SKTRANSFER_DATA={folder}" & {told}'
    told = shlex.join(command)
    return told if not folder else f"SKTRANSFER_DATA={shlex.quote(folder)} {told}"


def _kept(results: Path) -> str:
    """Say where the finished fits are, if there are any."""
    return f"Finished fits are in {results}." if results.exists() else "No fit is kept."


def _ended(why: str, code: int) -> int:
    """Say in a line why the study ended, and return the exit code."""
    print(f"python -m sktransfer: {why}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
