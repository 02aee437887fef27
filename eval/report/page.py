"""The page: one file that holds all it needs, and may load nothing."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from . import dabi_cci_map as plane
from . import flip_curves as flips
from . import results, students, training
from . import trajectories as ways
from .copy import prose, terms
from .folder import Run, runs
from .section import Missing, Section, Table

HERE = Path(__file__).parent


def page(folders: Sequence[Path], reasons: Mapping[str, str] | None = None) -> str:
    """The report as HTML.

    Args:
        folders: of runs.
        reasons: why a run has no new trajectories, by its folder.
    """
    found = runs(folders)
    why = {run.name: reasons[str(run.folder)] for run in found if reasons and str(run.folder) in reasons}
    way, data = ways.section(found, why)
    parts = [results, training, flips, students, plane]
    sections = [overview(found), way, *(part.section(found) for part in parts)]
    script, style = read("page.js"), read("page.css")
    maker = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return maker.from_string(read("page.html")).render(
        title=", ".join(run.name for run in found),
        sections=sections,
        data=data,
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; script-src {digest(script)}; style-src {digest(style)}",
        words=terms(),
        keys=prose("keys"),
        published=published(),
        version=version("textflow"),
    )


def read(name: str) -> str:
    """A file of this room."""
    return (HERE / name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """What a content security policy calls a text: no other script or style has leave to run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def overview(found: Sequence[Run]) -> Section:
    """The runs: kind, length of training, weights, and what their folders hold."""
    rows, made = [], Section("runs", "Runs")
    for run in found:
        done = max((step for points in run.curves.values() for step, _ in points), default=None)
        holds = [
            f"{len(run.records)} scored rows" if run.records else "",
            "diagnostics" if run.diagnosed else "",
            f"{len(run.ways)} trajectories" if run.ways else "",
            "rounds" if run.rounds else "",
        ]
        steps = "–" if done is None else f"{done:,.0f}"
        rows.append([run.name, str(run.folder), run.kind, steps, run.weights or "none", ", ".join(filter(None, holds))])
        if not run.recipe and not run.rounds:
            made.missing.append(
                Missing(run.name, "no recipe.yaml: this is not the folder of a run", "textflow fit RECIPE")
            )
        made.notes += [f"{run.name}: {said}" for said in run.broken]
    heads = ["run", "folder", "kind", "steps", "weights", "holds"]
    words = "Steps are the last that was logged; weights are named by the first 16 digits of their SHA-256."
    made.tables.append(Table("", heads, rows, words, len(heads)))
    return made


def published() -> Table:
    """Published numbers, to read beside one's own."""
    said = yaml.safe_load((HERE.parent / "published" / "few_step.yaml").read_text(encoding="utf-8"))
    heads = list(dict.fromkeys(str(passes) for row in said["rows"].values() for passes in row))
    rows = []
    for name, row in said["rows"].items():
        cells = {str(passes): f"{perplexity:g} / {entropy:.2f}" for passes, (perplexity, entropy) in row.items()}
        rows.append([name, *(cells.get(head, "") for head in heads)])
    words = f"{said['protocol']}. To know the scale, not to rank."
    return Table("Perplexity / entropy by passes", ["system", *heads], rows, words, 1)
