"""Page sections: paragraphs, figures, tables, and missing results with the commands that create them."""

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass
class MissingResult:
    """Missing result of a run.

    Args:
        run: name of the run.
        reason: reason why the result is missing.
        command: command that creates it; empty if none does.
    """

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
    columns: list[str]
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
