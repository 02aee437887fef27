"""Validation of numbers and of textflow eval records."""

import math
from typing import Any

from ..table import COLUMNS, OPTIONAL_COLUMNS, STORY_COLUMNS

Record = dict[str, Any]
REQUIRED_KEYS = (
    *("text", "perplexity", "entropy", "n", "scorer", "scorer_hash", "scorer_dtype", "scorer_tokenizer"),
    *("scorer_vocab", "truncation", "token_weighting", "weights", "aggregation", "entropy_ids"),
)
DICT_KEYS = ("sampler", "escape", "sweep", "intervals")
NUMBER_KEYS = (*COLUMNS, *OPTIONAL_COLUMNS, *STORY_COLUMNS, "steps")


def finite_number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def record_problems(record: Record) -> str:
    """Problems that prevent showing a textflow eval record; empty if it is complete."""
    if missing := [name for name in REQUIRED_KEYS if name not in record]:
        return f"{', '.join(missing)} missing"
    names = [name for name in DICT_KEYS if not isinstance(record.get(name) or {}, dict)]
    names += [name for name in ("deviations", "unreadable_lines") if not isinstance(record.get(name) or [], list)]
    parts = [name for name in ("sampler", "escape") if record.get(name) and name not in names]
    names += [name for name in parts if "class" not in record[name]]
    names += [name for name in NUMBER_KEYS if record.get(name) is not None and finite_number(record[name]) is None]
    return f"{', '.join(names)} of another kind" if names else ""
