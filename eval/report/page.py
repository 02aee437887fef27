"""Report page: one self-contained file that loads nothing."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from . import dabi_cci_map, flip_curves, results, stories, students, training, trajectories
from .folder import RunReport, load_runs
from .section import MissingResult, ReportSection, ReportTable, load_copy, paragraph

FOLDER = Path(__file__).parent


def render_page(folders: Sequence[Path], reasons: Mapping[str, str] | None = None) -> str:
    """Render the report as HTML.

    Args:
        folders: run folders.
        reasons: reasons for missing new trajectories, by run folder.
    """
    reports = load_runs(folders)
    why = {run.name: reasons[str(run.folder)] for run in reports if reasons and str(run.folder) in reasons}
    section, data = trajectories.make_section(reports, why)
    parts = [results, stories, training, flip_curves, students, dabi_cci_map]
    made = [part.make_section(reports) for part in parts]
    sections = [overview_section(reports), section, *(one for one in made if one.name != "stories" or one.figures)]
    return fill_page(", ".join(run.name for run in reports), sections, data)


def fill_page(title: str, sections: Sequence[ReportSection], data: object) -> str:
    """Fill the template of the page.

    Args:
        title: names of what is reported.
        sections: sections in order.
        data: trajectories for the section of that name; empty without one.
    """
    script, style = read_asset("page.js"), read_asset("page.css")
    jinja = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return jinja.from_string(read_asset("page.html")).render(
        title=title,
        sections=sections,
        data=data,
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; script-src {csp_hash(script)}; style-src {csp_hash(style)}",
        terms=load_copy()["terms"],
        keys=paragraph("keys"),
        published=published_table(),
        version=version("textflow"),
    )


def read_asset(name: str) -> str:
    """Text of a file of this package."""
    return (FOLDER / name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """Content-security-policy hash of a text; no other script or style may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def overview_section(runs: Sequence[RunReport]) -> ReportSection:
    """Section on the runs: kind, training length, weights and folder contents."""
    rows, section = [], ReportSection("runs", "Runs")
    for run in runs:
        last = max((step for points in run.curves.values() for step, _ in points), default=None)
        contents = [
            f"{len(run.records)} scored rows" if run.records else "",
            "diagnostics" if run.diagnostics else "",
            f"{len(run.trajectories)} trajectories" if run.trajectories else "",
            "rounds" if run.rounds else "",
        ]
        steps, weights = "–" if last is None else f"{last:,.0f}", run.weights_hash or "none"
        rows.append([run.name, str(run.folder), run.kind, steps, weights, ", ".join(filter(None, contents))])
        if not run.recipe and not run.rounds:
            reason = "no recipe.yaml: this is not the folder of a run"
            section.missing.append(MissingResult(run.name, reason, "textflow fit RECIPE"))
        section.notes += [f"{run.name}: {error}" for error in run.errors]
    heads = ["run", "folder", "kind", "steps", "weights", "contents"]
    caption = "Steps: the last logged step. Weights: the first 16 hex digits of their SHA-256."
    section.tables.append(ReportTable("", heads, rows, caption, len(heads)))
    return section


def published_table() -> ReportTable:
    """Published numbers for comparison."""
    published = yaml.safe_load((FOLDER.parent / "published" / "few_step.yaml").read_text(encoding="utf-8"))
    systems = published["rows"].items()
    nfes = list(dict.fromkeys(nfe for _, row in systems for nfe in row))
    cells = {(name, nfe): "{:g} / {:.2f}".format(*pair) for name, row in systems for nfe, pair in row.items()}
    rows = [[name, *(cells.get((name, nfe), "") for nfe in nfes)] for name, _ in systems]
    caption = f"{published['protocol']}. For scale only; these numbers do not rank against yours."
    return ReportTable("Perplexity / entropy by NFE", ["system", *map(str, nfes)], rows, caption, 1)
