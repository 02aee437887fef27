"""Chart axes: values to positions in the picture, and ticks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Scale = Literal["linear", "log"]


@dataclass
class Axis:
    """Axis of a chart.

    Args:
        title: title with the unit.
        scale: linear or log.
        low: smallest value shown; default: from the data.
        high: largest value shown; default: from the data.
    """

    title: str
    scale: Scale = "linear"
    low: float | None = None
    high: float | None = None

    def fit(self, values: Sequence[float], begin: float, end: float) -> "AxisScale":
        """Fit the axis to values, between two positions of the picture."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        visible = [value for value in values if self.scale == "linear" or value > 0] or [1.0]
        low = min(visible) if self.low is None else self.low
        high = max(visible) if self.high is None else self.high
        if self.scale == "log":
            low, high = low / 1.15, max(high, low * 1.01) * 1.15
            ticks = clip_ticks(LogLocator(subs=(1.0, 2.0, 5.0), numticks=99).tick_values(low, high), low, high)
            if len(ticks) > 7:
                ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
            return AxisScale(math.log(low), math.log(high), ticks, True, begin, end)
        pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        low, high = (low if self.low is not None else low - pad), (high if self.high is not None else high + pad)
        ticks = clip_ticks(MaxNLocator(6).tick_values(low, high), low, high)
        return AxisScale(low, high, ticks, False, begin, end)


@dataclass
class AxisScale:
    """Scale from values to positions in the picture; a logarithmic one holds the logarithms of its end values."""

    start_value: float
    end_value: float
    ticks: list[float]
    is_log: bool
    start: float
    end: float

    def position(self, value: float) -> float | None:
        """Position of a value; None if it cannot be shown."""
        if self.is_log and value <= 0:
            return None
        distance = (math.log(value) if self.is_log else value) - self.start_value
        return self.start + distance / (self.end_value - self.start_value or 1.0) * (self.end - self.start)


def clip_ticks(ticks: Iterable[float], low: float, high: float) -> list[float]:
    """Ticks between the ends of an axis."""
    slack = (high - low) * 1e-9
    return [float(tick) for tick in ticks if low - slack <= tick <= high + slack]


def format_number(value: float) -> str:
    """Number as text for ticks and tables."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
