"""Page of a league: valid texts by the number of steps, and all tables."""

from collections.abc import Sequence

from ..record import Record
from ..report.axis import Axis
from ..report.chart import Series, render_chart
from ..report.page import fill_page
from ..report.section import ReportFigure, ReportSection, ReportTable
from ..results import Table
from .markdown import TITLES, captions_of, refusal_lines, summary
from .scoring import OWN
from .tables import SINGLE, make_tables, step_column


def render_page(records: Sequence[Record], steps: Sequence[int]) -> str:
    """The page as HTML.

    Args:
        records: records of the systems.
        steps: numbers of sampling steps.
    """
    captions = captions_of(steps)
    first = ReportSection("league", "League of systems", [summary(records)], valid_figures(records, steps))
    sections = [
        ReportSection(
            name,
            TITLES[name],
            tables=[report_table(table, captions[name], 3 if name == "samples" else 2)],
            notes=refusal_lines(records) if name == "map" else [],
        )
        for name, table in make_tables(records, steps).items()
    ]
    return fill_page(", ".join(record["name"] for record in records), [first, *sections], {})


def report_table(table: Table, caption: str, num_text_columns: int) -> ReportTable:
    """A table for the page; its first columns are text."""
    rows = [[table.cell(row, column) for column in table.columns] for row in table.rows]
    return ReportTable("", [heading for heading, _ in table.columns.values()], rows, caption, num_text_columns)


def valid_figures(records: Sequence[Record], steps: Sequence[int]) -> list[ReportFigure]:
    """Valid texts by the number of steps, a figure for each sampling method; models without latents are in all."""
    methods = dict.fromkeys(cell["sampler"] for record in records for cell in record["cells"])
    methods = {method: None for method in methods if method != OWN} or {OWN: None}
    figures = []
    for method in methods:
        lines = [
            Series(record["name"], points, style, dashed=points_method == OWN)
            for style, record in enumerate(records)
            for points_method in dict.fromkeys((method, OWN))
            if (points := valid_points(record, points_method, steps))
        ]
        title = f"Valid texts by {method}"
        svg = render_chart(title, Axis("sampling steps", "log"), Axis("valid texts, %", low=0, high=100), lines)
        figures.append(ReportFigure(title, svg, "Dashed: models without latents, by their own samplers."))
    return figures


def valid_points(record: Record, method: str, steps: Sequence[int]) -> list[tuple[float, float]]:
    """Points (steps, valid texts in %); a model without steps has one value at both ends."""
    cells = [cell for cell in record["cells"] if cell["sampler"] == method]
    if cells and step_column(record, cells[0]) == SINGLE:
        return [(float(count), 100 * cells[0]["valid"]) for count in dict.fromkeys((min(steps), max(steps)))]
    return [(float(cell["steps"]), 100 * cell["valid"]) for cell in cells]
