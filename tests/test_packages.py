"""pyproject.toml lists every package of the tree, so that an installed textflow is complete."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def listed_packages() -> list[str]:
    """The packages of pyproject.toml (read without tomllib, which Python 3.10 lacks)."""
    packages = re.search(r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert packages
    return re.findall(r'"([\w.]+)"', packages[1])


def package_folders() -> dict[str, Path]:
    """Folders with Python files in textflow, cli and eval, by the name of their package."""
    folders = {}
    for top, package in (("textflow", "textflow"), ("cli", "textflow.cli"), ("eval", "textflow.eval")):
        for folder in {file.parent for file in (ROOT / top).rglob("*.py") if not file.parent.is_symlink()}:
            folders[".".join([package, *folder.relative_to(ROOT / top).parts])] = folder
    return folders


DATA = ["textflow.checkpoints", "textflow.recipes"]  # packages without code


def test_pyproject_lists_the_packages_of_the_tree_and_each_has_an_init_file() -> None:
    folders = package_folders()
    assert sorted(listed_packages()) == sorted([*folders, *DATA])
    assert [name for name, folder in folders.items() if not (folder / "__init__.py").is_file()] == []
