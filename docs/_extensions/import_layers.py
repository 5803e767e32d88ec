"""The directive ``import-layers``: the import graph, as pyproject.toml has it.

Rows and their order are the layers that ``lint-imports`` checks, what a module is for
is the first line of its docstring, and the marks come from the contracts on skorch,
tqdm and scikit-learn: the picture cannot differ from the code.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "pyproject.toml"
PACKAGE = "sktransfer"


def contracts(kind: str) -> list[dict[str, Any]]:
    """Contracts of import-linter of one kind, in the order of the file."""
    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))
    linter = settings["tool"]["importlinter"]
    return [entry for entry in linter["contracts"] if entry["type"] == kind]


def layers() -> list[list[str]]:
    """Names of the modules in each row, top row first."""
    (contract,) = contracts("layers")
    return [[name.strip() for name in row.split("|")] for row in contract["layers"]]


def marks() -> dict[str, list[str]]:
    """What a module, by name, may not import, and what only such modules may."""
    found: dict[str, list[str]] = {}

    def mark(module: str, words: str) -> None:
        found.setdefault(module.removeprefix(f"{PACKAGE}."), []).append(words)

    for contract in contracts("forbidden"):
        for module in contract["source_modules"]:
            if module != PACKAGE:
                mark(module, "no " + ", ".join(contract["forbidden_modules"]))
        for allowed in contract.get("ignore_imports", ()):
            module, _, imported = allowed.partition(" -> ")
            mark(module, imported)
    return found


def module_file(name: str) -> Path:
    """Where a module of the package lies."""
    folder = ROOT / PACKAGE / name
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def first_line(path: Path) -> str:
    """First line of a module's docstring, without importing it."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].replace("``", "")


class ImportLayers(SphinxDirective):
    """Rows of modules, each module with what it is for."""

    def run(self) -> list[nodes.Node]:
        """Build a container of rows, which the style sheet draws as boxes."""
        self.env.note_dependency(str(SETTINGS))
        marked = marks()
        picture = nodes.container(classes=["import-layers"])
        for names in layers():
            row = nodes.container(classes=["import-row"])
            row += [self.box(name, marked.get(name, [])) for name in names]
            picture += row
        self.set_source_info(picture)
        return [picture]

    def box(self, name: str, marked: list[str]) -> nodes.container:
        """One module: its name, its marks and its first line."""
        path = module_file(name)
        if not path.is_file():
            raise self.error(f"{SETTINGS.name} names {name}, but there is no {path}.")
        self.env.note_dependency(str(path))
        title = nodes.paragraph()
        title += nodes.strong("", "", nodes.literal(text=name))
        for words in marked:
            title += nodes.Text(" ")
            title += nodes.inline(text=words, classes=["import-mark"])
        box = nodes.container(classes=["import-module"])
        box += [title, nodes.paragraph(text=first_line(path))]
        return box


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known to Sphinx."""
    app.add_directive("import-layers", ImportLayers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
