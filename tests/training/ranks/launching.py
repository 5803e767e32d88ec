"""Starts scripts as users do: alone, or in several ranks with torchrun."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

# Seconds in which no script of these tests can be busy with anything but waiting.
LONG = 240


def run(script, folder, n_ranks=2):
    """Run a script in a folder; return its exit status and what it printed.

    With one rank, it runs without torchrun.
    """
    path = Path(folder) / "train.py"
    path.write_text(script, encoding="utf-8")
    start = [sys.executable]
    if n_ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += ["--nproc-per-node", str(n_ranks)]
    # One thread each, as torchrun has it anyway.
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*start, str(path)],
        cwd=folder,
        env=surroundings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed, _ = process.communicate(timeout=LONG)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # torchrun passes it on
    return process.returncode, printed
