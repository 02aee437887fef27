"""The kept records of several runs, beside published numbers."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from .record import Record

PUBLISHED = Path(__file__).parent / "published"
ORDER = ("published", "real", "shuffled", "given", "generated")


def collected(places: Sequence[Path]) -> list[Record]:
    """The records of runs, each with a label: the run's name where there are several, its weights where they differ.

    Args:
        places: folders of runs, folders of records, or records.
    """
    found: list[Record] = []
    for place in places:
        records = [read(path) for path in files(place)]
        weights = len({record.get("checkpoint_hash") for record in records}) > 1
        for record in records:
            words = [place.name if len(places) > 1 else "", record.get("checkpoint_hash", "")[:6] if weights else ""]
            found.append(record | {"label": " ".join(word for word in words if word)})
    return sorted(once(found), key=order)


def files(place: Path) -> list[Path]:
    """The records of a place; the error says how to make some."""
    if place.is_file():
        return [place]
    inner = place / "eval" if (place / "eval").is_dir() else place
    found = sorted(inner.glob("*.json"))
    if not found:
        raise ValueError(f"no records in {place}: make some with textflow eval {place}")
    return found


def read(path: Path) -> Record:
    """One record; what is none is said."""
    try:
        said: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a record of textflow eval ({error}); remove it or measure anew") from error
    if not isinstance(said, dict) or not {"text", "perplexity", "scorer_hash"} <= set(said):
        raise ValueError(f"{path} is not a record of textflow eval: it has no text, perplexity and scorer_hash")
    return said


def once(records: Iterable[Record]) -> list[Record]:
    """Real text that several runs measured alike stands once, without a run's name."""
    kept: dict[Any, Record] = {}
    for i, record in enumerate(records):
        real = record["text"] in ("real", "shuffled")
        said = {key: value for key, value in record.items() if key in ("text", "seed", "n", "scorer_hash", "length")}
        key = (*map(str, said.items()), record["perplexity"], record["entropy"]) if real else i
        kept[key] = record | {"label": ""} if key in kept else record
    return list(kept.values())


def order(record: Record) -> tuple[Any, ...]:
    """Published and real text first; then by run, way and steps."""
    way = json.dumps([record.get("escape"), record.get("sampler"), record.get("guidance")], sort_keys=True)
    return ORDER.index(record["text"]), record.get("label", ""), way, record.get("steps") or 0, record.get("n") or 0


def published(name: str) -> list[Record]:
    """Published numbers as records, to stand beside one's own; by protocols of their own.

    Args:
        name: few_step, or a YAML file with `protocol` and `rows`.
    """
    path = PUBLISHED / f"{name}.yaml" if (PUBLISHED / f"{name}.yaml").is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in PUBLISHED.glob("*.yaml")))
        raise ValueError(f"no published numbers {name!r}; known are {known}, or name a YAML file")
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        {"text": "published", "label": who, "protocol": said["protocol"], "perplexity": ppl, "entropy": entropy}
        | ({"nfe": passes, "n": None} if isinstance(passes, int) else {"n": None})
        for who, row in said["rows"].items()
        for passes, (ppl, entropy) in row.items()
    ]
