"""The table of trained systems, as a record for RESULTS.md."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

from textflow.runtime.atomic import atomic_write_text

from .record import Record
from .results import Cell
from .systems import DIAGNOSTIC_STEPS, System, percent

TITLE = "Systems at the small size"
TEXT_FORMAT = "{} / {} / {}%"  # perplexity, entropy, repetition


def make_record(systems: Sequence[System], steps: Sequence[int], command: str, seed: int, hardware: str) -> Record:
    """Record for RESULTS.md: a row per system, and real text.

    Args:
        systems: measured systems, a row each.
        steps: numbers of sampling steps of the columns.
        command: command that measured them.
        seed: random seed of the samples.
        hardware: where the seconds were measured.
    """
    timed = DIAGNOSTIC_STEPS if DIAGNOSTIC_STEPS in steps else max(steps)
    real = systems[0].records[0]
    scored = {"heading": "", "format": TEXT_FORMAT}
    columns = {"system": "system"} | {f"k{count}": scored | {"heading": f"K = {count}"} for count in steps}
    columns |= {"single": scored | {"heading": "without K"}, "calls": f"network evaluations, K = {timed}"}
    columns |= {"seconds": f"seconds per text, K = {timed}", "dabi": "DABI of flips", "cci": "CCI"}
    columns |= {"tube": {"heading": "tube", "format": "{}%"}, "rollin": {"heading": "roll-in", "format": "{}% / {}%"}}
    about = {"system": "system", "recipe": "recipe", "model": "model", "parameters": "parameters of the net"}
    about |= {"steps": "training steps", "sampler": "sampler"}
    rows = {"real": {"system": "real text", "single": text_cell(real)}}
    rows |= {system.name: system_row(system, timed) for system in systems}
    deviations = "; ".join(real["deviations"])
    protocol = {
        "command": command,
        "protocol": real["protocol"] + (f" ({deviations})" if deviations else ""),
        "scorer_hash": real["scorer_hash"],
        "dtype": real["scorer_dtype"],
        "n": str(real["n"]),
        "seed": str(seed),
        "hardware": hardware,
        "source": f"measured on {date.today()}, torch {torch.__version__}",
    }
    runs = {system.name: {"system": system.name, **system.facts} for system in systems}
    tables = {"results": {"columns": columns, "rows": rows}, "runs": {"columns": about, "rows": runs}}
    return {"title": TITLE, "protocol": protocol, "tables": tables}


def system_row(system: System, timed: int) -> dict[str, Cell]:
    """Row of the table; a model that takes one call per token has one result, without K."""
    row: dict[str, Cell] = {"system": system.name}
    made = [record for record in system.records if record["text"] == "generated"]
    for record in made:
        row["single" if system.facts["model"] == "CausalLM" else f"k{record['steps']}"] = text_cell(record)
    record = next((each for each in made if each["steps"] == timed), made[-1])
    return row | {"calls": f"{record['nfe']:g}", "seconds": f"{record['seconds'] / record['n']:.2f}"} | system.cells


def text_cell(record: Record) -> Cell:
    """Perplexity, entropy in nats, and repetition (seq-rep-4) in per cent; a dash where undefined."""
    forms = {"perplexity": "{:.1f}", "entropy": "{:.2f}"}
    numbers = [form.format(record[key]) if record[key] is not None else "-" for key, form in forms.items()]
    return [*numbers, "-" if record["seq_rep_4"] is None else percent(record["seq_rep_4"])]


def write_record(record: Record, path: Path, verb: str = "reproduce systems") -> None:
    """Write a record as YAML, which names the verb that wrote it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"sort_keys": False, "width": 120, "allow_unicode": True}
    head = yaml.safe_dump({key: record[key] for key in ("title", "protocol")}, **options)
    tables = yaml.safe_dump({"tables": record["tables"]}, default_flow_style=None, **options)
    atomic_write_text(path, f"# Written by textflow {verb}.\n{head}{tables}")
