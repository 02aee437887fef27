"""What `import textflow` offers."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import textflow
import textflow.training
from textflow.runtime.lazy import import_names

PAGE = Path(__file__).parents[1] / "textflow" / "README.md"


def typed_names() -> dict[str, str]:
    """Public name -> module, of the imports that type checkers read."""
    tree = ast.parse(Path(textflow.__file__).read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body) and all(a.asname == a.name for node in imports for a in node.names)
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def table_column(heading: str, column: int) -> list[str]:
    """Class names in one column of the table below a heading of the library's page."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split(" | ")[column] for line in section.splitlines() if line.startswith("| ")][1:]
    return [name for cell in cells for name in re.findall(r"`([A-Z]\w+)`", cell)]


def test_every_public_name_is_there_and_listed() -> None:
    assert set(textflow.__all__) <= set(dir(textflow))
    for name in textflow.__all__:
        assert getattr(textflow, name) is not None


def test_type_checkers_see_every_public_name_in_the_module_that_it_is_loaded_from() -> None:
    assert typed_names() == textflow._HOMES
    assert sorted(textflow.__all__) == sorted(["__version__", *textflow._HOMES])


def test_every_noun_of_the_library_s_page_and_every_class_to_subclass_is_a_public_name() -> None:
    classes, bases = table_column("Abstract classes", 0), table_column("Add a part", 1)
    assert len(classes) > 15 and len(bases) > 12, "the tables are read"
    assert set(classes + bases) - set(textflow._HOMES) == set()


def test_the_import_alone_loads_no_torch() -> None:
    code = "import sys, textflow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_that_are_imported_late_are_listed_and_an_unknown_one_is_an_error() -> None:
    found = import_names("textflow.training") | import_names("textflow.data")
    assert {"MuonAdam", "Zero", "FSDP", "Trainer", "CheckpointCallback", "DataModule", "FirstDocuments"} <= set(found)
    with pytest.raises(AttributeError, match="'textflow.training' has no attribute 'Trainr'"):
        textflow.training.Trainr  # noqa: B018
