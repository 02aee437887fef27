"""The house stands: a module imports lower floors or its own room, and a test no other test."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    ["types", "noise", "paths", "layers", "runtime"],
    ["schedules", "codecs", "escapes", "metrics", "data", "training"],
    ["nets"],
    ["objectives", "readouts"],
    ["samplers"],
    ["distill"],
    ["discrete"],
    ["models", "reference"],
    ["oracle", "diagnostics"],
    ["config", "external"],
    ["run_folder"],
    ["convert", "eval"],
    ["cli"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
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
    return [other for other in others if FLOOR[other] >= FLOOR[own]]


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    assert sorted(FLOOR) == sorted({own for name, _ in modules() if (own := room(name))})


def test_modules_import_lower_floors_only() -> None:
    offenders = {name: found for name, path in modules() if (found := upward(name, path.read_text()))}
    assert offenders == {}


def test_tests_share_helpers_and_import_no_test_module() -> None:
    offenders = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        inner = path.relative_to(ROOT)
        names = imports(".".join(inner.with_suffix("").parts), path.read_text())
        if found := [name for name in names if name.startswith("tests.") and ".test_" in name]:
            offenders[str(inner)] = found
    assert offenders == {}


@pytest.mark.parametrize(
    ("name", "code", "found"),
    [
        ("textflow.nets.elf", "from textflow.objectives import Objective", ["objectives"]),
        ("textflow.nets.elf", "from ..objectives.base import Objective", ["objectives"]),
        ("textflow.nets.elf", "from .. import objectives", ["objectives"]),
        ("textflow.nets.elf", "def late():\n    import textflow.models.base", ["models"]),
        ("textflow.config.recipe", "from textflow import eval", ["eval"]),
        ("textflow.codecs.base", "from textflow.schedules import TimeSchedule", ["schedules"]),
        ("textflow.nets.elf", "from .base import Denoiser\nfrom ..types import Ids\nimport torch", []),
        ("textflow.nets.__init__", "from .elf import ELF", []),
    ],
)
def test_an_upward_import_would_be_seen(name: str, code: str, found: list[str]) -> None:
    assert upward(name, code) == found
