"""Whether time follows the FLOP formula, over length, vocabulary, width and depth."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .contests import named
from .sizes import Setting, Size
from .timing import alternate, disagreement, facts, times

BASE = Size(256, 4, 4, 160, 48, 7_168, 3, 640, 10, 128)
ON_GPU = 256  # rows where launches would take longer than the work of a few
POINTS: dict[str, tuple[int, ...]] = {
    "length": (64, 128, 256),
    "vocab": (2_048, 7_168, 32_100),
    "width": (128, 256, 512),
    "depth": (2, 4, 8),
}
NEAR = 0.2  # largest difference of the measured ratio from the formula's, as a share of the latter
ALIKE = 5e-6  # largest difference of the forms' gradients, as a share of the largest one


def scaling(
    what: str, device: str, repeats: int, base: Size | None = None, points: dict[str, tuple[int, ...]] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Measured ratio plain / lean against that of the FLOP formula, one field of the size changing at a time.

    Args:
        what: step or pd.
        device: cpu or cuda.
        repeats: of each side at each point.
        base: the other fields; default: BASE, on a GPU with more rows.
        points: values of the fields.
        tell: is told each point when it is there.
    """
    found: list[dict[str, Any]] = []
    base = base or (replace(BASE, rows=ON_GPU) if device == "cuda" else BASE)
    for field, values in (points or POINTS).items():
        for value in values:
            size = replace(base, **{field: value})
            if field == "width":
                size = replace(size, heads=max(value // 64, 1))
            found.append({"field": field, "value": value} | point(what, Setting(size, device), repeats))
            tell(line(found[-1]))
    worst, differs = (max(abs(one[key]) for one in found) for key in ("off", "difference"))
    return {"bench": "scaling", "of": what, **facts(Setting(base, device)), "repeats": repeats, "points": found,
            "worst": worst, "near": NEAR, "differs": differs, "holds": worst <= NEAR and differs <= ALIKE}  # fmt: skip


def point(what: str, setting: Setting, repeats: int) -> dict[str, Any]:
    """One size."""
    contest = named(what, setting)
    error = disagreement(contest)
    seconds = alternate(contest, repeats, setting.device)
    measured = statistics.median(b / a for a, b in zip(seconds["lean"], seconds["plain"], strict=True))
    lean, plain = (contest.flops(form) for form in ("lean", "plain"))
    assert lean is not None and plain is not None
    return {"measured": measured, "formula": plain / lean, "off": measured * lean / plain - 1, "difference": error,
            **times(seconds)}  # fmt: skip


def line(one: dict[str, Any]) -> str:
    """A point as it is printed."""
    low, high = one["speedup_spread"]["plain"]
    return (
        f"  {one['field']:<8}{one['value']:>7}   measured {one['measured']:.2f} [{low:.2f}, {high:.2f}]"
        f"   formula {one['formula']:.2f}   {one['off']:+.0%}"
    )
