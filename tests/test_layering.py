"""The house stands: a module imports lower floors or its own room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    ["types", "noise", "disk", "ranks", "hardware"],
    ["paths", "clocks"],
    ["nets"],
    ["codecs", "official"],
    ["readouts", "samplers", "escapes", "targets", "metrics"],
    ["objectives"],
    ["data", "training"],
    ["escaped", "sampling", "texts", "holes", "generator", "autoencoder", "causal", "masked"],
    ["oracle"],
    ["diagnostics"],
    ["mistakes", "refusals", "trust"],
    ["recipe", "changes", "rounds", "checkpoint", "convert"],
    ["eval"],
    ["cli"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
STAIRS = {
    ("clocks", "paths"),
    ("sampling", "escaped"),
    ("texts", "sampling"),
    ("causal", "holes"),
    ("generator", "holes"),
    ("generator", "texts"),
    ("masked", "holes"),
    ("changes", "recipe"),
    ("checkpoint", "changes"),
    ("checkpoint", "recipe"),
    ("rounds", "recipe"),
    ("convert", "recipe"),
    ("convert", "checkpoint"),
}  # on a floor
FOLDERS = {"textflow": "textflow", "cli": "textflow.cli", "eval": "textflow.eval"}


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module but textflow itself, which imports nothing until it is asked."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            if (folder, inner) != ("textflow", ("__init__",)) and not path.parent.is_symlink():
                yield ".".join([package, *inner]), path


def imports(name: str, code: str) -> Iterator[str]:
    """Dotted names that a module imports, relative ones made absolute; `from a import b` may be a.b."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: -node.level] if node.level else []
            full = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{full}.{alias.name}" for alias in node.names)


def room(name: str) -> str | None:
    """The room of textflow that a dotted name lies in."""
    parts = name.split(".")
    return parts[1] if parts[0] == "textflow" and len(parts) > 1 and parts[1] != "__version__" else None


def upward(name: str, code: str) -> list[str]:
    """The imports of a module that its floor does not allow."""
    own = room(name)
    others = sorted({other for found in imports(name, code) if (other := room(found)) and other != own})
    return [o for o in others if FLOOR[o] >= FLOOR[own] and (own, o) not in STAIRS]


@pytest.mark.parametrize(("name", "path"), [pytest.param(name, path, id=name) for name, path in modules()])
def test_a_module_imports_lower_floors_only(name: str, path: Path) -> None:
    assert room(name) in FLOOR, f"{name} has no floor"
    assert upward(name, path.read_text()) == []


@pytest.mark.parametrize(
    ("name", "code", "found"),
    [
        ("textflow.nets.elf", "from textflow.codecs import Table", ["codecs"]),
        ("textflow.nets.elf", "from ..codecs.table import Table", ["codecs"]),
        ("textflow.nets.elf", "from .. import codecs", ["codecs"]),
        ("textflow.nets.elf", "def late():\n    import textflow.training.optim", ["training"]),
        ("textflow.config.recipe", "from textflow import eval", ["eval"]),
        ("textflow.paths.base", "from textflow.schedules import Clock", ["clocks"]),
        ("textflow.nets.elf", "from .base import Speaker\nfrom ..types import Ids\nimport torch", []),
        ("textflow.nets.__init__", "from .elf import ELF", []),
    ],
)
def test_an_upward_import_would_be_seen(name: str, code: str, found: list[str]) -> None:
    assert upward(name, code) == found
