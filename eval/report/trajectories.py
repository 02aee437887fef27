"""Trajectory data for the page's script."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from .folder import Record, RunReport
from .numbers import finite_number
from .section import MissingResult, ReportSection, paragraph

MAX_POSITIONS = 256  # positions shown; the record holds all
METHOD_DESCRIPTIONS = {
    "ODE": "the posterior mean carries the noise smoothly; nothing is chosen before the end",
    "re-injection": "each step goes back by fresh noise, then forward; nothing is chosen before the end",
    "mode commit": "after each call the likeliest tokens replace the mean [ours]",
    "own": "the sampler of the recipe",
}


def make_section(runs: Sequence[RunReport], reasons: Mapping[str, str]) -> tuple[ReportSection, list[Record]]:
    """Section on the trajectories, and their data.

    Args:
        runs: runs of the page.
        reasons: reasons for missing new trajectories, by run name.
    """
    section, data = ReportSection("trajectories", "Trajectories", [paragraph("trajectories")]), list[Record]()
    for run in runs:
        records = run.own_trajectories
        if other := len(run.trajectories) - len(records):
            section.notes.append(f"{run.name}: {other} trajectories of other weights are not shown.")
        if records:
            data.append(run_data(run, records))
        elif run.kind not in ("codec", "rounds"):
            section.missing.append(missing_result(run, reasons))
        elif run.name in reasons:
            section.missing.append(MissingResult(run.name, reasons[run.name]))
    return section, data


def missing_result(run: RunReport, reasons: Mapping[str, str]) -> MissingResult:
    """Reason for missing trajectories, and the command that creates them."""
    if run.weights_hash is None:
        return MissingResult(run.name, "no weights yet, so no trajectories", "textflow fit RECIPE")
    reason = reasons.get(run.name, "no trajectories")
    return MissingResult(run.name, reason, f"textflow report {quote(str(run.folder))} --samples 3")


def run_data(run: RunReport, records: list[Record]) -> Record:
    """Samples of a run, each with its sampling methods."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in sorted(records, key=method_order):
        groups[record["seed"], record["steps"], record["index"]].append(record)
    several = len({key[:2] for key in groups}) > 1
    samples = []
    for (seed, steps, index), methods in sorted(groups.items()):
        name = f"sample {index}" + (f", seed {seed}, {steps} steps" if several else "")
        samples.append({"name": name, "methods": [trajectory_data(record, run) for record in methods]})
    token_texts = {token: text for record in records for token, text in record["token_texts"].items()}
    return {"name": run.name, "kind": run.kind, "samples": samples, "token_texts": token_texts}


def method_order(record: Record) -> int:
    """Sort key: the known methods in their order, then all others."""
    order = list(METHOD_DESCRIPTIONS)
    return order.index(record["method"]) if record["method"] in order else len(order)


def trajectory_data(record: Record, run: RunReport) -> Record:
    """Trajectory data: protocol text, and calls with rounded numbers."""
    n, name = len(record["ids"]), record["method"]
    parts = [record["sampling"].get(key) or {} for key in ("escape", "sampler")]
    names = [str(part.get("class_path", "")).rsplit(".", 1)[-1] for part in parts if part]
    schedule = f", grid {record['schedule']}" if record.get("schedule") else ""
    title = run.kind if name == "own" and run.kind != "continuous" else name
    return {
        "title": title + (" (the recipe's sampler)" if record.get("is_recipe_default") and name != "own" else ""),
        "description": METHOD_DESCRIPTIONS.get(name, ""),
        "protocol": f"{' + '.join(names)}{schedule}, seed {record['seed']}, sample {record['index']},"
        f" weights {record['checkpoint_hash']}, {record.get('dtype')} on {record.get('device')}",
        "replay_command": f"textflow sample --replay {quote(str(record['file']))}",
        "text": record["text"],
        "cci": finite_number(record.get("cci")),
        "hidden_positions": max(n - MAX_POSITIONS, 0),
        "is_prompt": [int(token >= 0) for token in (record.get("prompt_ids") or [])[:MAX_POSITIONS]],
        "calls": [
            {
                "t": call["t"],
                "ids": call["ids"][:MAX_POSITIONS],
                "margin": [round(value, 2) for value in call["margin"][:MAX_POSITIONS]],
                "committed": [int(token >= 0) for token in call["committed"][:MAX_POSITIONS]],
            }
            for call in record["calls"]
        ],
    }
