"""pyproject.toml names every package of the tree, so that an installed textflow is whole."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def named() -> list[str]:
    """The packages of pyproject.toml (read without tomllib, which Python 3.10 lacks)."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r"^packages = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert found
    return re.findall(r'"([\w.]+)"', found[1])


def there() -> set[str]:
    """The packages of the tree: folders with Python files in textflow, cli and eval."""
    found = set()
    for top, package in (("textflow", "textflow"), ("cli", "textflow.cli"), ("eval", "textflow.eval")):
        folders = {
            file.parent.relative_to(ROOT / top) for file in (ROOT / top).rglob("*.py") if not file.parent.is_symlink()
        }
        found |= {".".join([package, *folder.parts]) for folder in folders}
    return found


def test_pyproject_names_the_packages_of_the_tree() -> None:
    assert len(named()) == len(set(named()))
    assert set(named()) == there()


def test_every_package_has_an_init_file() -> None:
    for package in named():
        outside = package.split(".")[1:2] in (["cli"], ["eval"])  # these lie at the top
        folder = ROOT / (package.removeprefix("textflow.") if outside else package).replace(".", "/")
        assert (folder / "__init__.py").is_file(), package
