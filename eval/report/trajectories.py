"""The trajectories as the page's script reads them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .copy import prose
from .folder import Record, Run
from .numbers import number_of
from .section import Missing, Section

SHOWN = 256  # positions; the record holds all
MEANT = {
    "ODE": "the posterior mean carries the noise smoothly; nothing is chosen before the end",
    "re-injection": "each step goes back by fresh noise, then forward; nothing is chosen before the end",
    "mode commit": "after each call the likeliest tokens take the place of the mean [ours]",
    "own": "as its recipe says",
}


def section(runs: Sequence[Run], reasons: Mapping[str, str]) -> tuple[Section, list[Record]]:
    """What is said of the trajectories, and the data of those that there are.

    Args:
        runs: of the page.
        reasons: why a run has no new ones, by its name.
    """
    made, data = Section("ways", "The way of a sample", [prose("ways")]), list[Record]()
    for run in runs:
        own = [record for record in run.ways if record["checkpoint_hash"] == run.weights]
        if other := len(run.ways) - len(own):
            made.notes.append(f"{run.name}: {other} trajectories of other weights are not shown.")
        if own:
            data.append(of_run(run, own))
        elif run.kind not in ("codec", "rounds"):
            made.missing.append(lacking(run, reasons))
        elif run.name in reasons:
            made.missing.append(Missing(run.name, reasons[run.name]))
    return made, data


def lacking(run: Run, reasons: Mapping[str, str]) -> Missing:
    """Why a run has no trajectories, and what makes them."""
    if run.weights is None:
        return Missing(run.name, "no weights yet, so no trajectories", "textflow fit RECIPE")
    return Missing(run.name, reasons.get(run.name, "no trajectories"), f"textflow report {run.folder} --samples 3")


def of_run(run: Run, records: list[Record]) -> Record:
    """The samples of a run, each with its ways."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["seed"], record["asked"], record["index"]].append(record)
    several = len({key[:2] for key in groups}) > 1
    samples = []
    for (seed, asked, index), ways in sorted(groups.items()):
        name = f"sample {index}" + (f", seed {seed}, {asked} steps" if several else "")
        order = list(MEANT)
        found = sorted(ways, key=lambda way: order.index(way["way"]) if way["way"] in order else len(order))
        samples.append({"name": name, "ways": [of_record(way, run) for way in found]})
    pieces = {token: text for record in records for token, text in record["pieces"].items()}
    return {"name": run.name, "kind": run.kind, "samples": samples, "pieces": pieces}


def of_record(record: Record, run: Run) -> Record:
    """A way: its protocol in words, and its calls with few digits."""
    n, name = len(record["ids"]), record["way"]
    parts = [record["parts"].get(key) or {} for key in ("escape", "sampler")]
    said = [str(part.get("class_path", "")).rsplit(".", 1)[-1] for part in parts if part]
    clock = f", grid {record['clock']}" if record.get("clock") else ""
    title = run.kind if name == "own" and run.kind != "continuous" else name
    return {
        "title": title + (" (its recipe's way)" if record.get("own") and name != "own" else ""),
        "means": MEANT.get(name, ""),
        "protocol": f"{' + '.join(said)}{clock}, seed {record['seed']}, sample {record['index']},"
        f" weights {record['checkpoint_hash']}, {record.get('dtype')} on {record.get('device')}",
        "again": f"textflow sample --from-record {record['file']}",
        "text": record["text"],
        "cci": number_of(record.get("cci")),
        "cut": n - SHOWN if n > SHOWN else 0,
        "given": [int(token >= 0) for token in (record.get("given") or [])[:SHOWN]],
        "calls": [
            {
                "t": call["t"],
                "ids": call["ids"][:SHOWN],
                "lead": [round(value, 2) for value in call["lead"][:SHOWN]],
                "fed": [int(token >= 0) for token in call["chosen"][:SHOWN]],
            }
            for call in record["calls"]
        ],
    }
