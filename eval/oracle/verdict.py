"""Means of the ranking records over oracle tasks, and the verdict on commitment."""

from collections.abc import Sequence
from statistics import variance
from typing import Any

from .methods import REINJECT_METHODS

Record = dict[str, Any]
Z_95 = 1.96  # standard errors on each side of a 95 % interval
ENTROPY_TOLERANCE = 0.05  # nats; entropy differences up to this count as preserved
XKL3_FLOOR = 1e-3  # nats; an xkl3 below it is indistinguishable from the truth
GROUP_KEYS = ("corruption", "grid", "method", "nfe")
RANKING_MEASURES = ("xkl3", "xkl2", "dnll", "dh1", "illegal")


def mean_records(records: Sequence[Record]) -> list[Record]:
    """Means over tasks in the order of the records, with 95 % intervals: over texts where texts were resampled (the
    tasks are fixed), else over tasks where there are several of each kind."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in GROUP_KEYS), []).append(record)
    return [mean_record(key, group) for key, group in groups.items()]


def mean_record(group_key: tuple[Any, ...], group: list[Record]) -> Record:
    """Mean over one group of records."""
    mean: Record = dict(zip(GROUP_KEYS, group_key, strict=True))
    mean |= {"num_tasks": len(group), "n": group[0]["n"], "collapsed": any(record["collapsed"] for record in group)}
    for part in RANKING_MEASURES:
        mean[part] = sum(record[part] for record in group) / len(group)
        if group[0]["std_error"]:
            mean[f"{part}_side"] = Z_95 * sum(r["std_error"][part] ** 2 for r in group) ** 0.5 / len(group)
        elif len(group) > len({record["task"] for record in group}):
            mean[f"{part}_side"] = Z_95 * standard_error(group, part)
    return mean


def standard_error(group: Sequence[Record], measure: str) -> float:
    """Standard error of the mean over tasks, with the kinds fixed."""
    kinds: dict[str, list[float]] = {}
    for record in group:
        kinds.setdefault(record["task"], []).append(record[measure])
    return float(sum(variance(values) * len(values) for values in kinds.values()) ** 0.5) / len(group)


def best_row(rows: Sequence[Record], methods: Sequence[str], nfe: int = 4) -> Record:
    """Row with the lowest xkl3 among these methods on any grid; collapsed rows are excluded."""
    candidates = [
        r for r in rows if r["method"] in methods and r["nfe"] == nfe and not r["corruption"] and not r["collapsed"]
    ]
    if not candidates:
        raise ValueError(f"nothing was measured of {', '.join(methods)} at {nfe} calls")
    return min(candidates, key=lambda row: float(row["xkl3"]))


def commitment_verdict(rows: Sequence[Record], commit_methods: Sequence[str] = ("mode commit",)) -> Record:
    """Verdict on commitment at 4 calls: xkl3 3 times below the ODE's, 2 times below the best re-injection's, and
    entropy within .05 nats of the truth; each method on its best grid. `entropy_preserving`, if present, is
    the best re-injection that also preserves the entropy; the others lower xkl3 at the cost of entropy."""
    others = {"ode": best_row(rows, ["ODE, read(x_hat)"]), "argmax": best_row(rows, ["ODE, argmax gamma"])}
    commit = best_row(rows, commit_methods)
    others["reinject"] = best_row(rows, REINJECT_METHODS)
    preserving = [r for r in rows if r["method"] in REINJECT_METHODS and abs(r["dh1"]) <= ENTROPY_TOLERANCE]
    if preserving:
        others["entropy_preserving"] = best_row(preserving, REINJECT_METHODS)
    ratios = {name: row["xkl3"] / max(commit["xkl3"], XKL3_FLOOR) for name, row in others.items()}
    holds = ratios["ode"] >= 3 and ratios["reinject"] >= 2 and abs(commit["dh1"]) <= ENTROPY_TOLERANCE
    verdict = {"holds": holds, "ratio": ratios, "dh1": commit["dh1"], "num_tasks": commit["num_tasks"]}
    return verdict | {"commit": commit} | others
