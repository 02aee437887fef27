"""The headers of the recipes: their numbers are those of the records, their commands and paths exist."""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from textflow.cli.app import VERBS, main

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for folder in ("recipes", "recipes/small") for path in (ROOT / folder).glob("*.yaml"))
RECORDS = ROOT / "eval" / "published"
EXPECTED = re.compile(r"\bExpect \(([^)]*)\)(.*?)\.(?= [A-Z\[`]|$)")  # a sentence with the source of its numbers
MEASURED = re.compile(r"(perplexity|accuracy|loss of|bound of)[^.]{0,12} \d*\.?\d")
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?|(?<![\w.])\.\d+")


def header(path: Path) -> str:
    """The comment at the top of a recipe, in one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.removeprefix("#").strip() for line in comment)


def numbers(text: str) -> set[float]:
    return {float(number.replace(",", "").rstrip(".")) for number in NUMBER.findall(text)}


def values(text: str) -> set[float]:
    """The numbers of a record or page; k8 of a record's key counts as 8."""
    return numbers(re.sub(r"\bk(?=\d)", " ", text))


def unsupported(recipe: Path) -> Iterator[str]:
    """What a header expects without a source, or otherwise than the record that it names."""
    text = header(recipe)
    if text.count("Expect ") != len(EXPECTED.findall(text)) or MEASURED.search(EXPECTED.sub("", text)):
        yield f"{recipe.name}: numbers without 'Expect (results/NAME.yaml)' or 'Expect (published)'"
    for source, sentence in EXPECTED.findall(text):
        if source != "published":
            missing = numbers(sentence) - values((RECORDS / source).read_text(encoding="utf-8"))
            yield from (f"{recipe.name}: {number:g} is not in {source}" for number in sorted(missing))


def test_every_number_that_a_header_expects_is_in_the_record_that_it_names() -> None:
    assert [error for recipe in RECIPES for error in unsupported(recipe)] == []
    published = {path for path in RECIPES if "Expect (published)" in header(path)}
    assert published and not [path.name for path in published if path.parent.name == "small"]


def catalogue_rows() -> Iterator[tuple[str, str]]:
    """Name of the recipe and expected cell of each row of the catalogue."""
    for line in (ROOT / "recipes" / "README.md").read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\| `([\w/]+\.yaml)` \|.*\| ([^|]*) \|$", line):
            yield row[1], row[2]


def section(anchor: str) -> str:
    """The text of one section of the results page, without its subsections."""
    parts = re.split(r"^(#+ .*)$", (RECORDS / "RESULTS.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    titles = {
        re.sub(r"[^\w\- ]", "", title.lstrip("# ").lower()).replace(" ", "-"): text
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    return titles[anchor]


def test_every_number_of_the_catalogue_is_in_the_results_or_in_the_header() -> None:
    wrong = []
    for name, cell in catalogue_rows():
        links = re.findall(r"RESULTS\.md#([\w-]+)", cell)
        source = "".join(section(link) for link in links) if links else header(ROOT / "recipes" / name)
        missing = numbers(re.sub(r"\]\([^)]*\)", "]", cell)) - values(source)
        wrong += [f"{name}: {number:g}" for number in sorted(missing)]
    assert wrong == []


def part_parameters() -> set[str]:
    """Names of all parameters and fields in textflow, one of which ends a dotted option such as --model.codec.dim."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "textflow").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    fields = {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    return fields | {node.arg for node in nodes if isinstance(node, ast.arg)}


def unknown_words(recipe: Path, options: set[str], parameters: set[str]) -> Iterator[str]:
    """Options, verbs and paths in a header that do not exist."""
    text = re.sub(r"pip download .*?==\S+", "", header(recipe))
    for option in re.findall(r"(?<!\w)--([a-z][\w.-]*\w)", text):
        if option not in options and not ("." in option and option.rsplit(".", 1)[1] in parameters):
            yield f"{recipe.name}: --{option}"
    yield from (f"{recipe.name}: {verb}" for verb in re.findall(r"`textflow (\w+)", text) if verb not in VERBS)
    for path in re.findall(r"(?<![\w/])((?:recipes|eval)/[\w/]+\.\w+)", text):
        if not (ROOT / path).is_file():
            yield f"{recipe.name}: {path}"


def test_options_verbs_and_paths_in_headers_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("sample", "eval", "distill", "fit"):
        with suppress(SystemExit):
            main([verb, "--help"])
    options = set(re.findall(r"--([a-z][\w-]*)", capsys.readouterr().out))
    parameters = part_parameters()
    assert [word for recipe in RECIPES for word in unknown_words(recipe, options, parameters)] == []
