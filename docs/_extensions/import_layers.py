"""The directive ``import-layers``: the rooms of the package, from pyproject.toml.

Floors are the layers that ``lint-imports`` checks. A room's responsibility, and that of
each file in it, is the first line of its docstring. Guests, libraries that only some
rooms may import, and walls inside a room come from the other contracts. The picture
therefore cannot differ from the code.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "pyproject.toml"
PACKAGE = "sktransfer"

Contract = dict[str, Any]


def read_contracts(kind: str) -> list[Contract]:
    """Contracts of import-linter of one kind, in the order of the file."""
    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))
    linter = settings["tool"]["importlinter"]
    return [entry for entry in linter["contracts"] if entry["type"] == kind]


def read_floors() -> list[list[str]]:
    """Names of the rooms on each floor, top floor first."""
    (contract,) = read_contracts("layers")
    return [[name.strip() for name in row.split("|")] for row in contract["layers"]]


def sources(contract: Contract) -> list[str]:
    """Modules that a contract forbids to import something, without the package."""
    return [name.removeprefix(f"{PACKAGE}.") for name in contract["source_modules"]]


def is_about_a_guest(contract: Contract) -> bool:
    """Whether a contract keeps a library out of whole rooms."""
    return not any("." in name for name in sources(contract)) and not any(
        name.partition(".")[0] == PACKAGE for name in contract["forbidden_modules"]
    )


def find_guests(room: str) -> list[str]:
    """Libraries that this room may import and some others may not."""
    return [
        library
        for contract in read_contracts("forbidden")
        if is_about_a_guest(contract) and room not in sources(contract)
        for library in contract["forbidden_modules"]
    ]


def find_walls(room: str) -> list[str]:
    """Names of the contracts that hold inside a room."""
    return [
        contract["name"]
        for contract in read_contracts("forbidden")
        if not is_about_a_guest(contract)
        and {name.partition(".")[0] for name in sources(contract)} == {room}
    ]


def first_line(path: Path) -> str:
    """First line of a module's docstring, without importing it."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].replace("``", "")


def list_modules(folder: Path) -> list[Path]:
    """Python files of a folder, and the folders of Python files in it, by name."""
    files = [path for path in folder.glob("*.py") if path.stem != "__init__"]
    return sorted(files) + sorted(path.parent for path in folder.glob("*/__init__.py"))


class ImportLayers(SphinxDirective):
    """Floors of rooms; each room with what it is for and, on request, its files."""

    def run(self) -> list[nodes.Node]:
        """Build a container of floors, which the style sheet draws as boxes."""
        self.env.note_dependency(str(SETTINGS))
        picture = nodes.container(classes=["floors"])
        floors = read_floors()
        for height, names in zip(range(len(floors), 0, -1), floors, strict=True):
            is_room = not names[0].startswith("__")
            words = f"floor {height}" if is_room else "the command line"
            rooms = nodes.container(classes=["floor-rooms"])
            rooms += [self.draw_room(name) for name in names]
            floor = nodes.container(classes=["floor"])
            floor += [nodes.paragraph(text=words), rooms]
            picture += floor
        self.set_source_info(picture)
        return [picture]

    def draw_room(self, name: str) -> nodes.container:
        """One room: its name, its guests, its responsibility, its walls and files."""
        folder = ROOT / PACKAGE / name
        is_folder = folder.is_dir()
        path = folder / "__init__.py" if is_folder else folder.with_suffix(".py")
        if not path.is_file():
            raise self.error(f"{SETTINGS.name} names {name}, but there is no {path}.")
        title = nodes.paragraph()
        called = f"{name}/" if is_folder else path.name
        title += nodes.strong("", "", nodes.literal(text=called))
        for library in find_guests(name):
            title += nodes.Text(" ")
            title += nodes.inline(text=library, classes=["room-guest"])
        room = nodes.container(classes=["room"])
        room += [title, nodes.paragraph(text=self.responsibility(path))]
        if is_folder:
            room += self.draw_files(folder)
        for wall in find_walls(name):
            room += nodes.paragraph(text=f"Wall: {wall}.", classes=["room-wall"])
        return room

    def draw_files(self, folder: Path) -> Iterator[nodes.Node]:
        """The files of a room, which a click shows."""
        n_files = sum(path.stem != "__init__" for path in folder.rglob("*.py"))
        words = f"<details><summary>{n_files} files</summary>"
        yield nodes.raw("", words, format="html")
        yield self.list_files(folder)
        yield nodes.raw("", "</details>", format="html")

    def list_files(self, folder: Path) -> nodes.bullet_list:
        """Each file, or folder of files, with its first line."""
        files = nodes.bullet_list()
        for path in list_modules(folder):
            is_folder = path.is_dir()
            line = self.responsibility(path / "__init__.py" if is_folder else path)
            words = nodes.paragraph()
            words += nodes.literal(text=f"{path.name}/" if is_folder else path.stem)
            words += nodes.Text(f" {line}")
            item = nodes.list_item("", words)
            if is_folder:
                item += self.list_files(path)
            files += item
        return files

    def responsibility(self, path: Path) -> str:
        """First line of a module, which is read again when the module changes."""
        self.env.note_dependency(str(path))
        return first_line(path)


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known to Sphinx."""
    app.add_directive("import-layers", ImportLayers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
