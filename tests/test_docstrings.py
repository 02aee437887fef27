"""Docstrings begin with a sentence, and an `Args:` section leaves out no argument."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DELEGATES = re.compile(r"other arguments are|arguments as in")  # the docstring names where the others are explained


def documented(docstring: str) -> set[str]:
    """Arguments that an `Args:` section explains."""
    section = re.split(r"^(?:Returns|Raises|Yields):", docstring.partition("Args:\n")[2], flags=re.MULTILINE)[0]
    names = re.findall(r"^    (\w[\w, ]*): ", section, re.MULTILINE)
    return {name for line in names for name in line.split(", ")}


def parameters(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Arguments of a function, or of a class by its constructor or fields; *args and **kwargs are left out."""
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return parameters(part)
    if not any("dataclass" in ast.unparse(part) or "NamedTuple" in ast.unparse(part) for part in
               [*node.decorator_list, *node.bases]):  # fmt: skip
        return []
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    return [ast.unparse(part.target) for part in fields if not re.search("ClassVar|init=False", ast.unparse(part))]


def faults(path: Path) -> Iterator[str]:
    """What the docstrings of a module leave out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (docstring := ast.get_docstring(node)):
            if re.match(r"(Args|Returns|Raises|Yields):", docstring):
                yield f"{path.relative_to(ROOT)}: {node.name} has no first line"
            if "Args:\n" in docstring and not DELEGATES.search(docstring):
                missing = [name for name in parameters(node) if name not in documented(docstring)]
                yield from (f"{path.relative_to(ROOT)}: {node.name} does not explain {name}" for name in missing)


def test_docstrings_begin_with_a_sentence_and_explain_every_argument() -> None:
    files = [path for folder in ("textflow", "cli", "eval") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 200
    assert [fault for path in files for fault in faults(path)] == []
