"""README.md stays short; the links and file names of every document lead to files; the catalogue is complete."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.readme_blocks import README

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *("README.md", "textflow/README.md", "recipes/README.md", "eval/README.md", "eval/published/README.md"),
    *("tests/README.md", "checkpoints/README.md", ".github/CONTRIBUTING.md"),
]


def links(document: str) -> Iterator[tuple[Path, str]]:
    """File and anchor of each relative link of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            yield ((ROOT / document).parent / file if file else ROOT / document).resolve(), anchor


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a Markdown file."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_to_files_and_headings() -> None:
    missing = [
        f"{document}: {file.relative_to(ROOT)}#{anchor}"
        for document in DOCUMENTS
        for file, anchor in links(document)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert missing == []


def test_the_catalogue_lists_every_recipe_and_overlay() -> None:
    catalogue = set(re.findall(r"`([\w./]+)`", (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")))
    small = {f"small/{path.name}" for path in (ROOT / "recipes" / "small").glob("*.yaml")}
    recipes = {path.name for path in (ROOT / "recipes").glob("*.yaml")} | small
    overlays = [path for path in (ROOT / "recipes").glob("*/*.yaml") if path.parent.name != "small"]
    names = {path.stem for path in overlays} | {f"{path.parent.name}/" for path in overlays}
    assert sorted((recipes | names) - catalogue) == []


def test_files_mentioned_in_documents_exist() -> None:
    pattern = re.compile(r"(?<![\w/])((?:recipes|tests|eval)/[\w/]+\.(?:yaml|py|json|md))\b")
    missing = [
        f"{document}: {name}"
        for document in DOCUMENTS
        for name in pattern.findall((ROOT / document).read_text(encoding="utf-8"))
        if Path(name).stem != "mine" and not (ROOT / name).is_file()  # a reader's own file is called mine
    ]
    assert missing == []


def test_readme_is_shorter_than_150_lines() -> None:
    assert len(README.splitlines()) < 150
