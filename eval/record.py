"""Records: metrics with their full protocol, one for each cell (steps, sampler).

A record is one JSON object in RUN/eval/*.json. Possible entries:

- text: real, shuffled (its words in a random order; its characters, where `shuffled_units` says so), generated, or
  file (texts from a file)
- checkpoint, checkpoint_hash, recipe, overlays, seq_length, tokenizer: the run; scorer_is_disjoint: whether the
  scorer's training documents are disjoint from the generator's
- steps, sampler, escape, order (unless all at once), time_grid, self_cond_guidance, seed: sampling settings, each part
  as {"class": ..., argument: value, ...}
- readout, readout_calls: readout with a network of its own, and its passes per text, which are not in nfe
- samples: folder below the run with the tokens and texts, in RUN/eval/samples; sweep: swept setting of a frontier
- protocol, deviations: protocol name, and the deviations of this measurement from it
- scorer, scorer_revision, scorer_hash, scorer_dtype, scorer_tokenizer, scorer_vocab, truncation, token_weighting,
  weights, scored_eos, scored_first, special_tokens, aggregation, entropy_ids: scoring settings
- n, empty, unscored (one token, no context), truncated, dropped (incomplete last batch), nonfinite, unreadable and
  unreadable_lines (of a file), tokens: counts
- METRIC_KEYS, and recovery, memorized_4grams, mauve, nfe, seconds: metrics; None where a metric is
  undefined; `intervals` gives [low, high] at 95% for each
- STORY_KEYS: shares and excess negative log-likelihood (protocol stories); one that is undefined is missing
- notes: what BLEU and ROUGE do not count
- textflow, code, torch: versions; code is a hash of the source that samples
"""

import hashlib
import inspect
import json
import math
from pathlib import Path
from typing import Any

import torch

from textflow.runtime.atomic import atomic_write_text

Record = dict[str, Any]
METRIC_KEYS = (
    *("perplexity", "bits_per_character", "nll", "entropy", "entropy_scorer", "entropy_generator", "nll_minus_entropy"),
    *("seq_rep_4", "human_repetition_share", "distinct_1", "distinct_2", "distinct_3", "diversity"),
)
STORY_KEYS = (
    *("stories/valid", "stories/in_grammar", "stories/bigrams", "stories/bound", "stories/articles"),
    *("stories/pronouns", "stories/names", "stories/persons", "stories/jobs", "stories/objects"),
    *("stories/adjectives", "stories/places", "stories/excess_nll"),
)
COUNT_KEYS = ("empty", "unscored", "truncated", "dropped", "nonfinite", "tokens")
RESULT_KEYS = (
    *METRIC_KEYS,
    *STORY_KEYS,
    *COUNT_KEYS,
    *("memorized_4grams", "mauve", "recovery", "intervals", "nfe", "seconds", "unreadable"),
)
UNHASHED_KEYS = ("checkpoint", "code", "sweep", "samples", "unreadable_lines", "notes")  # not in the protocol


def part_fields(part: Any) -> Record | None:
    """Part as {"class": name, argument: value, ...} with the arguments it stores; None stays None."""
    if part is None:
        return None
    named = {name: getattr(part, name) for name in inspect.signature(type(part)).parameters if hasattr(part, name)}
    return {"class": type(part).__name__, **{name: to_json_value(value) for name, value in named.items()}}


def to_json_value(value: Any) -> Any:
    """JSON-compatible value: numbers, strings and lists unchanged, tensors as numbers, parts by their fields."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [to_json_value(each) for each in value] if isinstance(value, list | tuple) else part_fields(value)


def replace_nonfinite(value: Any) -> Any:
    """Copy of a value with None for nonfinite numbers."""
    if isinstance(value, dict):
        return {key: replace_nonfinite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_record(record: Record, folder: Path) -> Path:
    """Write one JSON file named by its cell and protocol hash, so that another protocol never overwrites it.

    Args:
        record: from `evaluate` or `reference_records`; NaN and infinity are refused.
        folder: folder of the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sampler = (record.get("sampler") or {}).get("class", "")
    parts = [record["text"], sampler, record.get("steps", ""), protocol_hash(record)]
    path = folder / ("-".join(str(word).replace(" ", "-") for word in parts if word != "") + ".json")
    atomic_write_text(path, json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return path


def protocol_hash(record: Record) -> str:
    """Hash (8 hex digits) of all record entries except the results."""
    fields = {key: value for key, value in record.items() if key not in (*RESULT_KEYS, *UNHASHED_KEYS)}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
