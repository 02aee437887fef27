"""What the records of the ranking say: means over worlds, and whether commitment wins."""

from collections.abc import Sequence
from statistics import variance
from typing import Any

from .methods import REINJECTING

Record = dict[str, Any]
SIDE = 1.96  # standard errors on each side of a 95 % interval
NEAR = 0.05  # nats; an entropy so far from the truth's is as good as the truth's
FLOOR = 1e-3  # nats; an xkl3 below it is the truth as far as can be seen
PARTS = ("xkl3", "xkl2", "dnll", "dh1", "illegal")


def means(records: Sequence[Record]) -> list[Record]:
    """Means over worlds in the order of the records, with 95 % intervals: over texts where texts were resampled (the
    worlds stand), else over worlds where there are several of each kind."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in ("spoilt", "grid", "method", "calls")), []).append(record)
    return [mean_of(key, group) for key, group in groups.items()]


def mean_of(key: tuple[Any, ...], group: list[Record]) -> Record:
    """One row of `means`."""
    made: Record = dict(zip(("spoilt", "grid", "method", "calls"), key, strict=True))
    made |= {"worlds": len(group), "n": group[0]["n"], "collapsed": any(record["collapsed"] for record in group)}
    for part in PARTS:
        made[part] = sum(record[part] for record in group) / len(group)
        if group[0]["spread"]:
            made[f"{part}_side"] = SIDE * sum(r["spread"][part] ** 2 for r in group) ** 0.5 / len(group)
        elif len(group) > len({record["world"] for record in group}):
            made[f"{part}_side"] = SIDE * over_worlds(group, part)
    return made


def over_worlds(group: Sequence[Record], part: str) -> float:
    """Standard error of the mean over worlds, whose kinds stand."""
    kinds: dict[str, list[float]] = {}
    for record in group:
        kinds.setdefault(record["world"], []).append(record[part])
    return float(sum(variance(values) * len(values) for values in kinds.values()) ** 0.5) / len(group)


def best(rows: Sequence[Record], names: Sequence[str], calls: int = 4) -> Record:
    """The row of these methods with the least xkl3, whatever its grid; collapsed ones are not ranked."""
    found = [r for r in rows if r["method"] in names and r["calls"] == calls and not r["spoilt"] and not r["collapsed"]]
    if not found:
        raise ValueError(f"nothing was measured of {', '.join(names)} at {calls} calls")
    return min(found, key=lambda row: float(row["xkl3"]))


def verdict(rows: Sequence[Record], commit: Sequence[str] = ("mode commit",)) -> Record:
    """Whether commitment wins at 4 calls: xkl3 3 times below the ODE's, 2 times below the best re-injection's, and
    entropy within .05 nats of the truth; each method on its best grid. `true`, where there is one, is the best
    re-injection that keeps the entropy, too: the others buy their xkl3 with it.

    Args:
        rows: of `means`.
        commit: methods that stand for commitment.
    """
    ode, argmax, mine = best(rows, ["ODE, read(x_hat)"]), best(rows, ["ODE, argmax gamma"]), best(rows, commit)
    again = best(rows, REINJECTING)
    others = {"ode": ode, "argmax": argmax, "reinject": again}
    if true := [row for row in rows if row["method"] in REINJECTING and abs(row["dh1"]) <= NEAR]:
        others["true"] = best(true, REINJECTING)
    ratios = {name: row["xkl3"] / max(mine["xkl3"], FLOOR) for name, row in others.items()}
    held = ratios["ode"] >= 3 and ratios["reinject"] >= 2 and abs(mine["dh1"]) <= NEAR
    return {"held": held, "ratio": ratios, "dh1": mine["dh1"], "worlds": mine["worlds"], "commit": mine, **others}
