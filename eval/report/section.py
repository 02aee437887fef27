"""Page sections: paragraphs, figures, tables, and missing results with the commands that create them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml
from markupsafe import Markup


@cache
def load_copy() -> dict[str, dict[str, str]]:
    """Texts of the page by name: paragraphs (`sections`) and definitions (`terms`)."""
    return yaml.safe_load(Path(__file__).with_name("copy.yaml").read_text(encoding="utf-8"))


def paragraph(name: str) -> str:
    """Paragraph of the page by its name."""
    return load_copy()["sections"][name]


@dataclass
class MissingResult:
    """Missing result of a run, with the reason and the command that creates it; empty if none does."""

    run: str
    reason: str
    command: str = ""


@dataclass
class ReportFigure:
    """Chart with its title and caption."""

    title: str
    svg: Markup
    caption: str = ""


@dataclass
class ReportTable:
    """Table with a caption; the first `num_text_columns` columns are text, the others numbers."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    caption: str = ""
    num_text_columns: int = 2


@dataclass
class ReportSection:
    """Section of the page.

    Args:
        name: name of the anchor.
        title: text of the heading.
        paragraphs: explanatory paragraphs.
        figures: charts.
        tables: tables below the charts.
        missing: missing results of the runs.
        notes: further notes, such as rows that are not comparable.
    """

    name: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    figures: list[ReportFigure] = field(default_factory=list)
    tables: list[ReportTable] = field(default_factory=list)
    missing: list[MissingResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
