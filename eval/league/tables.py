"""Tables of a league from the records of its systems."""

from collections.abc import Sequence
from typing import Any

from textflow.diagnostics.bootstrap import at_floor

from ..record import Record
from ..results import Cell, Table
from ..systems import percent
from .claims import claims_table

SINGLE = "single"  # column of a model that takes one call per token, for any number of steps


def make_tables(records: Sequence[Record], steps: Sequence[int]) -> dict[str, Table]:
    """Tables by name.

    Args:
        records: records of the systems.
        steps: numbers of sampling steps of the columns.
    """
    timed, tables = timed_steps(steps), {name: step_table(records, steps, cell) for name, cell in STEP_CELLS.items()}
    return tables | {
        "map": map_table(records, timed),
        "samples": samples_table(records, timed),
        "claims": claims_table(records, steps),
        "fits": fits_table(records),
    }


def step_table(records: Sequence[Record], steps: Sequence[int], cell: Any) -> Table:
    """A row for each system and sampler, a column for each number of steps; real text first."""
    columns = {"system": ("system", "{}"), "sampler": ("sampler", "{}")}
    columns |= {f"k{count}": (f"K = {count}", "{}") for count in steps} | {SINGLE: ("without K", "{}")}
    rows: dict[str, dict[str, Cell]] = {"real": {"system": "real text", SINGLE: cell(records[0]["real"])}}
    for record in records:
        for each in record["cells"]:
            own = {"system": record["name"], "sampler": each["sampler"]}
            row = rows.setdefault(f"{record['name']}, {each['sampler']}", own)
            row[step_column(record, each)] = cell(each)
    return Table(columns, rows)


def step_column(record: Record, cell: Record) -> str:
    """Column of a cell."""
    return SINGLE if record["model"]["class"] == "CausalLM" else f"k{cell['steps']}"


def timed_steps(steps: Sequence[int]) -> int:
    """Number of steps at which the cost is shown."""
    return 8 if 8 in steps else max(steps)


def map_table(records: Sequence[Record], timed: int) -> Table:
    """Diagnostics and cost: a row for each system and sampler."""
    heads = ("system", "sampler", "DABI of flips", "CCI", "stiffness", "seconds per text")
    rows: dict[str, dict[str, Cell]] = {}
    for record in records:
        found = record["diagnostics"]
        for method, cell in timed_cells(record, timed).items():
            stiff = found["stiffness"].get(method)
            values = [dabi_text(found.get("dabi")), number(found["cci"][method], "{:.2f}")]
            values += ["{peak:.3g} / {total:.3g}".format(**stiff) if stiff else "–"]
            values += [f"{cell['seconds']:.3g}"]
            rows[f"{record['name']}, {method}"] = dict(zip(heads, [record["name"], method, *values], strict=True))
    return Table({head: (head, "{}") for head in heads}, rows)


def timed_cells(record: Record, timed: int) -> dict[str, Record]:
    """Cell of each sampler at a number of steps; the last one of a sampler without it."""
    cells: dict[str, Record] = {}
    for cell in record["cells"]:
        if cells.get(cell["sampler"], {}).get("steps") != timed:
            cells[cell["sampler"]] = cell
    return cells


def samples_table(records: Sequence[Record], timed: int) -> Table:
    """First text of each system and sampler."""
    heads = ("system", "sampler", "text")
    rows: dict[str, dict[str, Cell]] = {}
    for record in records:
        for method, cell in timed_cells(record, timed).items():
            text = cell["first_text"].replace("|", "/")
            rows[f"{record['name']}, {method}"] = dict(zip(heads, (record["name"], method, text), strict=True))
    return Table({head: (head, "{}") for head in heads}, rows)


def dabi_text(row: Record | None) -> str:
    """DABI of flips: at the floor if random noise flips too few tokens, a dash if neither flips any."""
    if row is None or (row["flip"] is None and row["flips"] == 0):
        return "–"
    if row["flip"] is None:
        return at_floor(f"{row['flip_low']:.2f}")
    return with_interval(row["flip"], [row["flip_low"], row["flip_high"]], "{:.2f}")


def fits_table(records: Sequence[Record]) -> Table:
    """Training of each system."""
    heads = ("system", "recipe", "model", "parameters", "search", "criterion", "score", "steps", "minutes", "codec")
    rows: dict[str, dict[str, Cell]] = {}
    for record in records:
        fit, model, codec = record["fit"], record["model"], record["fit"]["codec"]
        tried = ", ".join(f"{each['learning_rate']:g}: {number(each['score'], '{:.3f}')}" for each in fit["search"])
        values = [record["name"], fit["recipe"], model["class"], f"{model['parameters']:,}"]
        values += [f"{tried}; {fit['learning_rate']:g}", fit["criterion"], f"{fit['score']:.3f}"]
        values += [f"{fit['steps']:,}", f"{fit['cpu_seconds'] / 60:.2f}"]
        values += ["{:,} steps, {:.2f}".format(codec["steps"], codec["cpu_seconds"] / 60) if codec else "–"]
        rows[record["name"]] = dict(zip(heads, values, strict=True))
    return Table({head: (head, "{}") for head in heads}, rows)


def valid_cell(cell: Record) -> str:
    """Share of valid texts, %, with its interval."""
    return with_interval(100 * cell["valid"], [100 * end for end in cell["intervals"]["valid"]], "{:.0f}")


def bigrams_cell(cell: Record) -> str:
    """Share of pairs of neighbouring words that the language has, %, with its interval."""
    return with_interval(100 * cell["bigrams"], [100 * end for end in cell["intervals"]["bigrams"]], "{:.1f}")


def bound_cell(cell: Record) -> str:
    """Share of the agreements that hold, and of the texts in the grammar, %."""
    bound = "–" if cell["bound"] is None else f"{100 * cell['bound']:.0f}"
    return f"{bound} / {100 * cell['in_grammar']:.0f}"


def excess_cell(cell: Record) -> str:
    """Excess negative log-likelihood of the valid texts, nats."""
    if cell["excess_nll"] is None:
        return "–"
    return with_interval(cell["excess_nll"], cell["intervals"]["excess_nll"], "{:.2f}")


def variety_cell(cell: Record) -> str:
    """Entropy, repetition, share of texts that differ, and of valid texts that the training text has."""
    share = "–" if cell["in_training"] is None else f"{100 * cell['in_training']:.0f}"
    return f"{cell['entropy']:.2f} / {percent(cell['seq_rep_4'])} / {100 * cell['distinct']:.0f} / {share}"


def evaluations_cell(cell: Record) -> str:
    """Network evaluations, and passes of a readout with a network of its own."""
    calls = cell.get("readout_calls", 0)
    return "–" if "nfe" not in cell else f"{cell['nfe']:.4g}" + (f" + {calls}" if calls else "")


STEP_CELLS = {
    "valid": valid_cell,
    "bigrams": bigrams_cell,
    "bound": bound_cell,
    "excess": excess_cell,
    "variety": variety_cell,
    "evaluations": evaluations_cell,
}


def number(value: float | None, form: str) -> str:
    """Number as text; a dash for None."""
    return "–" if value is None else form.format(value)


def with_interval(value: float, ends: Sequence[float | None], form: str) -> str:
    """Number with its interval, if it has one."""
    low, high = ends
    return form.format(value) if low is None or high is None else f"{form} [{form}, {form}]".format(value, low, high)
