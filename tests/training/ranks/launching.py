"""Starts scripts as users do: alone, or in several ranks with torchrun."""

import os
import signal
import socket
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
    start = [sys.executable]
    if n_ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += ["--nproc-per-node", str(n_ranks)]
    return _end(_start([*start, _write(script, folder)], folder))


def run_by_hand(script, folder, n_ranks=2):
    """Run a script in ranks that nobody watches over; return the same of each rank.

    torchrun would end the others as soon as one of them fails.
    """
    path = _write(script, folder)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    job = {"WORLD_SIZE": n_ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        _start([sys.executable, path], folder, RANK=rank, LOCAL_RANK=rank, **job)
        for rank in range(n_ranks)
    ]
    try:
        return [_end(process) for process in processes]
    finally:
        for process in processes:
            process.kill()


def _write(script, folder):
    """Write a script into a folder; return where."""
    path = Path(folder) / "train.py"
    path.write_text(script, encoding="utf-8")
    return str(path)


def _start(command, folder, **surroundings):
    """Start a program in a folder, with what it prints collected."""
    # One thread each, as torchrun has it anyway.
    fixed = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    given = {name: str(value) for name, value in surroundings.items()}
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **fixed, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _end(process):
    """Wait for a program; return its exit status and what it printed."""
    try:
        printed, _ = process.communicate(timeout=LONG)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # torchrun passes it on
    return process.returncode, printed
