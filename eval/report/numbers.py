"""What counts as a number, and as a record of textflow eval."""

import math
from typing import Any

from ..table import ALWAYS, SOMETIMES

Record = dict[str, Any]
NEEDED = (
    *(
        "text",
        "perplexity",
        "entropy",
        "n",
        "scorer",
        "scorer_hash",
        "scorer_dtype",
        "scorer_tokenizer",
        "scorer_vocab",
    ),
    *("truncation", "counting", "weights", "aggregation", "entropy_ids"),
)
PARTS = ("sampler", "escape", "sweep", "intervals")
NUMBERS = (*ALWAYS, *SOMETIMES, "steps")


def number_of(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def lacks(record: Record) -> str:
    """What a record of textflow eval lacks to be shown; empty if it is whole."""
    if missing := [name for name in NEEDED if name not in record]:
        return f"{', '.join(missing)} missing"
    parts = [name for name in PARTS if not isinstance(record.get(name, {}) or {}, dict)]
    parts += [name for name in ("deviations", "unreadable_lines") if not isinstance(record.get(name) or [], list)]
    parts += [name for name in ("sampler", "escape") if record.get(name) and "class" not in record[name]]
    numbers = [name for name in NUMBERS if record.get(name) is not None and number_of(record[name]) is None]
    return f"{', '.join(parts + numbers)} of another kind" if parts or numbers else ""
