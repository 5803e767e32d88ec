"""Entries of a description from a file, which may hold anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# More pixels than any network sees.
MOST_PIXELS = 4_096

# Nothing here has more channels.
MOST_CHANNELS = 1_000_000

# Stages, and children of all stages.
MOST_STAGES, MOST_CHILDREN = 100, 5_000


class BlueprintError(ValueError):
    """A description of no network, or of another than that of the weights."""


class Checked:
    """Entries of a description, each of the kind that is asked for."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.entries = entries

    def get(self, name: str, kind: type) -> Any:
        value = self.entries.get(name)
        # A bool is an int, and would do as one.
        if type(value) is not kind:
            raise BlueprintError(f"its {name} is {value!r:.40}")
        return value

    def count(self, name: str, least: int = 1, most: int = MOST_CHANNELS) -> int:
        value: int = self.get(name, int)
        if not least <= value <= most:
            raise BlueprintError(f"its {name} is {value!r:.40}")
        return value

    def one_of(self, name: str, known: Any) -> Any:
        value = self.entries.get(name)
        if not isinstance(value, (str, bool)) or value not in known:
            raise BlueprintError(f"its {name} is {value!r:.40}")
        return value

    def counts(self, name: str, n: int, most: int) -> list[int]:
        values = self.get(name, list)
        are_counts = all(type(v) is int and 1 <= v <= most for v in values)
        if len(values) != n or not are_counts:
            raise BlueprintError(f"its {name} is {values!r:.40}")
        return [*values]

    def size(self) -> tuple[int, int] | None:
        if self.entries.get("image_size") is None:
            return None
        height, width = self.counts("image_size", 2, MOST_PIXELS)
        return height, width

    def share(self, name: str) -> float:
        value: Any = self.entries.get(name)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise BlueprintError(f"its {name} is {value!r:.40}")
        return float(value)

    def names(self) -> dict[str, list[str]]:
        stages = self.get("stages", dict)
        rows = stages.values()
        are_lists = all(type(children) is list for children in rows)
        # Networks here have a part of this name that is no stage.
        if not are_lists or len(stages) > MOST_STAGES or "preprocess" in stages:
            raise BlueprintError(f"its stages are {list(stages)!r:.80}")
        children = [child for row in rows for child in row]
        if len(children) > MOST_CHILDREN or not _are_names([*stages, *children]):
            raise BlueprintError(f"its stages consist of {children!r:.80}")
        return {**stages}


def _are_names(names: list[Any]) -> bool:
    return all(isinstance(name, str) and 0 < len(name) < 1_000 for name in names)
