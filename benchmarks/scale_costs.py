"""What one thing costs, read from the results of other benchmarks; nothing is typed in.

For `simulate_scale.py`.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
from record import RESULTS

from sktransfer._activations.storage.tiers import BLOCK_ROWS

# The cases of the other benchmarks that stand for the set on paper.
DECODED = {"format": "jpg", "megapixels": 0.2, "way": "sktransfer"}
STORED = {"row_kilobytes": 4}


class Costs(NamedTuple):
    """Seconds and bytes of one thing each, as measured on one core of one machine.

    Attributes
    ----------
    n_files, list_files : ndarray
        Files of activations in a folder, and seconds to list them when all are known.

    read_file, read_key : float
        Seconds to read the header of a new file in a folder of a thousand, and more for
        each row of it.

    read_file_of_many : float
        Seconds to read the header of a new file in the largest folder.

    stat_file : float
        Seconds to add the size of a file to the bytes on disk.

    file_bytes, key_bytes : float
        Memory that a process takes for each file, and for each row, that it knows of.

    n_held, take, give, fail : ndarray
        Locks that are held, and seconds to lock a key beside them, to unlock it, and to
        find that another process holds it.

    hash_key, find_key, find_in_memory, put_row : float
        Seconds per image in memory and in the index of files, and to keep a row.

    write_row, load_row : float
        Seconds to write a row to the folder, and to read one of another process.

    path_bytes, stream_bytes, send_path, open_file : float
        Bytes of a path in a list and of what is known of its file, seconds to send a
        path to a process, and to open its file when a fit begins.

    jpeg_bytes, decode_image : float
        Bytes of a file, and seconds of a core to decode it.

    reduction_bytes, reduction : ndarray
        Bytes and seconds of sums over two processes with gloo on one machine.
    """

    n_files: np.ndarray
    list_files: np.ndarray
    read_file: float
    read_key: float
    read_file_of_many: float
    stat_file: float
    file_bytes: float
    key_bytes: float
    n_held: np.ndarray
    take: np.ndarray
    give: np.ndarray
    fail: np.ndarray
    hash_key: float
    find_key: float
    find_in_memory: float
    put_row: float
    write_row: float
    load_row: float
    path_bytes: float
    stream_bytes: float
    send_path: float
    open_file: float
    jpeg_bytes: float
    decode_image: float
    reduction_bytes: np.ndarray
    reduction: np.ndarray

    def list_folder(self, n_files: float | np.ndarray) -> np.ndarray:
        """Compute the seconds to list files; beyond the largest, as long for each."""
        known, seconds = np.append(0, self.n_files), np.append(0, self.list_files)
        more = np.maximum(n_files, known[-1]) / known[-1]
        found: np.ndarray = more * np.interp(n_files, known, seconds)
        return found


def read(name: str, /, **key: Any) -> list[dict[str, Any]]:
    """Return the rows of a benchmark that have these values."""
    rows = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    found = [row for row in rows if key.items() <= row.items()]
    if not found:
        raise SystemExit(f"{name}.json has no row with {key}; run {name}.py first.")
    return found


def middle(value: Any) -> float:
    """Return the median of values, or of what `record.spread` has made of them."""
    if isinstance(value, str):
        return float(value.split(" ")[0].replace(",", ""))
    return float(np.median(value))


def split(one: dict[str, Any], other: dict[str, Any], name: str) -> tuple[float, float]:
    """Split a cost of two folders into that of a file and that of a row of it."""
    of_file = np.array(
        [
            [row["n_files"], row["n_files"] * row["rows_per_file"]]
            for row in (one, other)
        ],
        float,
    )
    each = np.linalg.solve(of_file, [middle(one[name]), middle(other[name])])
    return float(each[0]), float(each[1])


def read_costs() -> Costs:
    """Read all costs."""
    folders = read("coordination", what="folder")
    folders.sort(key=lambda row: row["n_files"])
    (large,) = read("coordination", what="folder", rows_per_file=BLOCK_ROWS)
    folders.remove(large)
    few, many = folders[0], folders[-1]
    read_file, read_key = split(few, large, "first_seconds")
    file_bytes, key_bytes = split(many, large, "memory_bytes")
    leases = sorted(read("coordination", what="leases"), key=lambda row: row["n_held"])
    keys, paths, rows = (
        read("coordination", what=what)[0] for what in ("keys", "paths", "rows")
    )
    sums = sorted(
        read("coordination", what="reduction"), key=lambda row: row["n_bytes"]
    )
    (decoded,), (stored,) = read("decoding", **DECODED), read("store", **STORED)
    (opened,) = read("streaming", model="paths")
    return Costs(
        n_files=np.array([row["n_files"] for row in folders]),
        list_files=np.array([middle(row["again_seconds"]) for row in folders]),
        read_file=read_file,
        read_key=read_key,
        read_file_of_many=middle(many["first_seconds"]) / many["n_files"],
        stat_file=middle(many["size_seconds"]) / many["n_files"],
        file_bytes=file_bytes,
        key_bytes=key_bytes,
        n_held=np.array([row["n_held"] for row in leases]),
        take=np.array([middle(row["take_seconds_per_key"]) for row in leases]),
        give=np.array([middle(row["give_seconds_per_key"]) for row in leases]),
        fail=np.array([middle(row["fail_seconds_per_key"] or 0) for row in leases]),
        hash_key=middle(keys["hash_seconds_per_image"]),
        find_key=middle(large["find_seconds_per_key"]),
        find_in_memory=middle(keys["find_in_memory_seconds_per_key"]),
        put_row=middle(keys["put_seconds_per_row"]),
        write_row=1 / middle(stored["written_per_second"]),
        load_row=middle(rows["load_seconds_per_row"]),
        path_bytes=paths["memory_bytes_per_path"],
        stream_bytes=opened["bytes_per_path"],
        send_path=middle(paths["send_seconds_per_path"]),
        open_file=opened["fit_seconds"] / opened["n"],
        jpeg_bytes=decoded["bytes_per_pixel"] * decoded["megapixels"] * 1e6,
        decode_image=decoded["n_threads"] / middle(decoded["images_per_second"]),
        reduction_bytes=np.array([row["n_bytes"] for row in sums], float),
        reduction=np.array([middle(row["seconds"]) for row in sums]),
    )


class Network(NamedTuple):
    """What is behind a cut of a network.

    Attributes
    ----------
    row_bytes : int
        Of an activation in bfloat16, or of an image if all stages learn.

    n_parameters : int
        That learn.

    n_batch_norms : int
        Layers of them that learn.
    """

    row_bytes: int
    n_parameters: int
    n_batch_norms: int


def read_network(backbone: str, unfreeze_depth: int) -> Network:
    """Read what is behind a cut of a network."""
    (row,) = read(
        "coordination", what="network", backbone=backbone, unfreeze_depth=unfreeze_depth
    )
    return Network(
        row["row_bytes"], row["n_parameters"], len(row["batch_norm_channels"])
    )
