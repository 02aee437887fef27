"""Axes of a chart: values to places in the picture, and the ticks between."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Scale = Literal["linear", "log"]


@dataclass
class Axis:
    """One axis.

    Args:
        title: with its unit.
        scale: linear or log.
        low: where it begins, if it must.
        high: where it ends, if it must.
    """

    title: str
    scale: Scale = "linear"
    low: float | None = None
    high: float | None = None

    def fit(self, values: Sequence[float], begin: float, end: float) -> "Ruler":
        """The axis over some values, from one place of the picture to another."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        fine = [value for value in values if self.scale == "linear" or value > 0] or [1.0]
        low = min(fine) if self.low is None else self.low
        high = max(fine) if self.high is None else self.high
        if self.scale == "log":
            low, high = low / 1.15, max(high, low * 1.01) * 1.15
            ticks = inside(LogLocator(subs=(1.0, 2.0, 5.0), numticks=99).tick_values(low, high), low, high)
            if len(ticks) > 7:
                ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
            return Ruler(math.log(low), math.log(high), ticks, True, begin, end)
        pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        low, high = (low if self.low is not None else low - pad), (high if self.high is not None else high + pad)
        ticks = inside(MaxNLocator(6).tick_values(low, high), low, high)
        return Ruler(low, high, ticks, False, begin, end)


@dataclass
class Ruler:
    """Values -> places in the picture.

    Args:
        low: of the axis, its logarithm where `log`.
        high: likewise.
        ticks: values.
        log: whether the axis is logarithmic.
        begin: place of low.
        end: place of high.
    """

    low: float
    high: float
    ticks: list[float]
    log: bool
    begin: float
    end: float

    def at(self, value: float) -> float | None:
        """The place of a value; None where it has none."""
        if self.log and value <= 0:
            return None
        share = ((math.log(value) if self.log else value) - self.low) / (self.high - self.low or 1.0)
        return self.begin + share * (self.end - self.begin)


def inside(ticks: Any, low: float, high: float) -> list[float]:
    """The ticks between the ends of an axis."""
    slack = (high - low) * 1e-9
    return [float(tick) for tick in ticks if low - slack <= tick <= high + slack]


def short(value: float) -> str:
    """A number as ticks and tables say it."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
