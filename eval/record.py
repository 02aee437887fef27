"""Records: a number and the whole protocol that it was measured by, one for each cell (steps, way to sample).

A record is one JSON object in RUN/eval/*.json. What it may say:

- text: real, shuffled (its words in a random order), generated, or given (texts from a file)
- checkpoint, checkpoint_hash, recipe, overlays, length, tokenizer: the run; apart: whether the judge never saw its text
- steps, sampler, escape, grid, guidance, seed: how was sampled, each part as {"class": ..., argument: value, ...}
- samples: folder below the run with the tokens and texts, in RUN/eval/samples; sweep: what a frontier went over
- protocol, deviations: its name, and in what this measurement is not that protocol, in words
- scorer, scorer_revision, scorer_hash, scorer_dtype, scorer_tokenizer, scorer_vocab, truncation, counting, weights,
  scored_eos, scored_first, special_tokens, aggregation, entropy_ids: how was counted
- n, empty, unscored (one token, no context), cut, dropped (incomplete last batch), broken (not finite), unreadable and
  unreadable_lines (of a file), tokens: how many
- NUMBERS, and recovery, memory, mauve, nfe, seconds: what was measured; None where it cannot be said; `intervals` gives
  [low, high] at 95% for each
- textflow, code, torch: versions; code is a hash of the source that samples
"""

import hashlib
import inspect
import json
import math
from pathlib import Path
from typing import Any

from textflow.runtime.atomic import replace_text

Record = dict[str, Any]
NUMBERS = (
    *("perplexity", "nll", "entropy", "entropy_scorer", "entropy_generator", "excess"),
    *("seq_rep_4", "clean", "distinct_1", "distinct_2", "distinct_3", "diversity"),
)
COUNTS = ("empty", "unscored", "cut", "dropped", "broken", "tokens")
MEASURED = (*NUMBERS, *COUNTS, "memory", "mauve", "recovery", "intervals", "nfe", "seconds", "unreadable")
BESIDE = ("checkpoint", "code", "sweep", "samples", "unreadable_lines")  # said in a record, but no part of its protocol


def fields(part: Any) -> Record | None:
    """A part as {"class": its name, argument: value, ...} with the arguments that it keeps; None stays None."""
    if part is None:
        return None
    named = {name: getattr(part, name) for name in inspect.signature(type(part)).parameters if hasattr(part, name)}
    return {"class": type(part).__name__, **{name: plain(value) for name, value in named.items()}}


def plain(value: Any) -> Any:
    """What JSON can hold: numbers, words and lists as they are, parts by their fields."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [plain(each) for each in value] if isinstance(value, list | tuple) else fields(value)


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(record: Record, folder: Path) -> Path:
    """One JSON file, named by its cell and a hash of its protocol: another protocol never overwrites it.

    Args:
        record: from `evaluate` or `references`; NaN and infinity are refused.
        folder: made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sampler = (record.get("sampler") or {}).get("class", "")
    words = [record["text"], sampler, record.get("steps", ""), protocol_hash(record)]
    path = folder / ("-".join(str(word).replace(" ", "-") for word in words if word != "") + ".json")
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    replace_text(path, text)
    return path


def protocol_hash(record: Record) -> str:
    """8 hex digits of all that a record says but what was measured."""
    said = {key: value for key, value in record.items() if key not in (*MEASURED, *BESIDE)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
