"""Saved records of several runs, compared with published numbers."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from textflow.config.strict_yaml import refuse_duplicates
from textflow.runtime.visible import visible_files

from .record import Record

PUBLISHED = Path(__file__).parent / "published"
ORDER = ("published", "real", "shuffled", "file", "generated")


def collect_records(paths: Sequence[Path]) -> list[Record]:
    """Records of runs, labelled by run name if there are several and by weights hash if they differ.

    Args:
        paths: run folders, record folders, or record files.
    """
    labelled: list[Record] = []
    for folder in paths:
        records = [read_record(path) for path in record_files(folder)]
        weights = len({record.get("checkpoint_hash") for record in records}) > 1
        for record in records:
            parts = [folder.name if len(paths) > 1 else "", record.get("checkpoint_hash", "")[:6] if weights else ""]
            labelled.append(record | {"label": " ".join(filter(None, parts))})
    return sorted(drop_duplicates(labelled), key=sort_key)


def record_files(path: Path) -> list[Path]:
    """Record files at a path; raise an error with the command to create them if there are none."""
    if path.is_file():
        return [path]
    inner = path / "eval" if (path / "eval").is_dir() else path
    files = visible_files(inner, "*.json")
    if not files:
        raise ValueError(f"no records in {path}: make some with textflow eval {quote(str(path))}")
    return files


def read_record(path: Path) -> Record:
    """Read one record; raise an error if the file is not one."""
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a record of textflow eval ({error}); remove it or measure again") from error
    if not isinstance(data, dict) or not {"text", "perplexity", "scorer_hash"} <= set(data):
        raise ValueError(f"{path} is not a record of textflow eval: it has no text, perplexity and scorer_hash")
    return data


def drop_duplicates(records: Iterable[Record]) -> list[Record]:
    """Merge identical real-text records of several runs into one without a run name."""
    unique: dict[Any, Record] = {}
    for i, record in enumerate(records):
        fields = ("text", "seed", "n", "scorer_hash", "seq_length", "perplexity", "entropy")
        key = tuple(str(record.get(name)) for name in fields) if record["text"] in ("real", "shuffled") else i
        unique[key] = record | {"label": ""} if key in unique else record
    return list(unique.values())


def sort_key(record: Record) -> tuple[Any, ...]:
    """Sort key: published and real text first; then by run, sampler and steps."""
    sampler = json.dumps([record.get(key) for key in ("escape", "sampler", "self_cond_guidance")], sort_keys=True)
    return ORDER.index(record["text"]), record.get("label", ""), sampler, record.get("steps") or 0, record.get("n") or 0


def load_published(name: str) -> list[Record]:
    """Published numbers as records, each under its own protocol.

    Args:
        name: few_step, or a YAML file with `protocol` and `rows`.
    """
    path = PUBLISHED / f"{name}.yaml" if (PUBLISHED / f"{name}.yaml").is_file() else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in PUBLISHED.glob("*.yaml")))
        raise ValueError(f"no published numbers {name!r}; known are {known}, or name a YAML file")
    try:
        text = path.read_text(encoding="utf-8")
        refuse_duplicates(text, str(path))
        data = yaml.safe_load(text)
        return [
            {"text": "published", "label": label, "protocol": data["protocol"], "perplexity": ppl, "entropy": entropy}
            | ({"nfe": passes, "n": None} if isinstance(passes, int) else {"n": None})
            for label, row in data["rows"].items()
            for passes, (ppl, entropy) in row.items()
        ]
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        needed = "protocol: {...}, and rows: {LABEL: {CALLS: [PERPLEXITY, ENTROPY]}}"
        raise ValueError(f"{path} holds no published numbers ({reason}); needed are {needed}") from error
