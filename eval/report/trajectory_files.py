"""The records of a run's trajectories, as files: found, read and checked without a model."""

import json
from pathlib import Path
from typing import Any

from textflow.runtime.atomic import content

Record = dict[str, Any]
FORMAT = "textflow trajectory 1"
NEEDED = (
    *(
        "kind",
        "checkpoint",
        "checkpoint_hash",
        "way",
        "ways",
        "parts",
        "times",
        "asked",
        "seed",
        "index",
        "stream",
        "device",
    ),
    *("length", "text", "ids", "calls", "pieces"),
)


def read(path: Path) -> Record:
    """A record, or a ValueError that says what is wrong with the file."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no record of a trajectory: {error}") from error
    found = said.get("format") if isinstance(said, dict) else type(said).__name__
    if found != FORMAT:
        raise ValueError(f"{path} is no record of a trajectory: found {found!r}, it needs the format {FORMAT!r}")
    if missing := [name for name in NEEDED if name not in said]:
        raise ValueError(f"{path} is not whole: {', '.join(missing)} missing; delete it, textflow report makes it anew")
    if not sound(said):
        raise ValueError(f"{path} has calls that are not whole; delete it, textflow report makes it anew")
    return said


def sound(said: Record) -> bool:
    """Whether every call has a token, a lead and a choice for each position, and every word is a word."""
    if not all(
        isinstance(said[name], kind)
        for name, kind in (("ids", list), ("ways", list), ("pieces", dict), ("parts", dict))
    ):
        return False
    n, pieces = len(said["ids"]), said["pieces"].values()
    words = [*(said[name] for name in ("kind", "way", "text", "checkpoint", "checkpoint_hash")), *pieces]
    numbers = [said["seed"], said["index"], said["asked"], said["stream"]]
    given = said.get("given")
    calls = said["calls"] if isinstance(said["calls"], list) else []
    rows = [call.get(name) for call in calls if isinstance(call, dict) for name in ("ids", "chosen", "lead")]
    return (
        bool(calls)
        and (given is None or (isinstance(given, list) and len(given) == n and all(isinstance(i, int) for i in given)))
        and len(rows) == 3 * len(calls)
        and all(isinstance(word, str) for word in words)
        and all(isinstance(number, int) for number in numbers)
        and all(isinstance(call.get("t"), int | float) for call in calls)
        and all(isinstance(row, list) and len(row) == n for row in rows)
        and all(isinstance(value, int | float) for row in rows for value in row or [])
        and all(isinstance(part, dict | float | int | None) for part in said["parts"].values())
    )


def stored(run: Path) -> tuple[list[Record], list[str]]:
    """The records of a run that can be read, and what is wrong with the others.

    Args:
        run: its folder.
    """
    found, broken = [], []
    for path in sorted((run / "trajectories").glob("*.json")):
        try:
            found.append(read(path) | {"file": str(path)})
        except ValueError as error:
            broken.append(str(error))
    return found, broken


def of_weights(run: Path) -> str | None:
    """16 hex digits of a run's weights; None where it has none."""
    path = run / "model.safetensors"
    return content(path)[:16] if path.is_file() else None


def complete(run: Path, n: int, steps: int, seed: int) -> bool:
    """Whether each of the first n samples has been walked in all its ways, with the run's own weights.

    Args:
        run: its folder.
        n: samples.
        steps: of the grid.
        seed: of the samples.
    """
    held = of_weights(run)
    kept = [
        record
        for record in stored(run)[0]
        if (record["checkpoint_hash"], record["asked"], record["seed"]) == (held, steps, seed)
    ]
    done, ways = {(record["way"], record["index"]) for record in kept}, {way for r in kept for way in r["ways"]}
    return n == 0 or (bool(ways) and all((way, i) in done for way in ways for i in range(n)))
