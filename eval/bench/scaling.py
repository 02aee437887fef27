"""Scaling of measured time against the FLOP formula over length, vocabulary, width and depth."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .benchmark import make_benchmark
from .sizes import BenchConfig, ModelSize
from .timing import bench_facts, max_difference, summarize_times, time_alternating

BASE_SIZE = ModelSize(256, 4, 4, 160, 48, 7_168, 3, 640, 10, 128)
GPU_ROWS = 256  # rows on a GPU, so that kernel launches do not dominate
SIZE_VALUES: dict[str, tuple[int, ...]] = {
    "length": (64, 128, 256),
    "vocab": (2_048, 7_168, 32_100),
    "width": (128, 256, 512),
    "depth": (2, 4, 8),
}
RATIO_TOLERANCE = 0.2  # largest relative error of the measured ratio against the formula's
GRADIENT_TOLERANCE = 5e-6  # largest gradient difference between variants, relative to the largest gradient


def measure_scaling(
    benchmark: str,
    device: str,
    repeats: int,
    base: ModelSize | None = None,
    size_values: dict[str, tuple[int, ...]] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measured time ratio reference / optimized against the FLOP formula's, varying one size field at a time.

    Args:
        benchmark: step or distill.
        device: torch device.
        repeats: number of timed repeats per size.
        base: values of the other fields; default: BASE_SIZE, with more rows on a GPU.
        size_values: values of each swept field; default: SIZE_VALUES.
        log: callback for a line per measured size.
    """
    points: list[dict[str, Any]] = []
    base = base or (replace(BASE_SIZE, rows=GPU_ROWS) if device == "cuda" else BASE_SIZE)
    for field, values in (size_values or SIZE_VALUES).items():
        for value in values:
            size = replace(base, **{field: value})
            if field == "width":
                size = replace(size, heads=max(value // 64, 1))
            point = {"field": field, "value": value} | measure_size(benchmark, BenchConfig(size, device), repeats)
            points.append(point)
            log(format_point(point))
    max_ratio_error = max(abs(point["ratio_error"]) for point in points)
    max_gradient_difference = max(abs(point["difference"]) for point in points)
    return {
        "benchmark": "scaling",
        "measured_benchmark": benchmark,
        **bench_facts(BenchConfig(base, device)),
        "repeats": repeats,
        "points": points,
        "max_ratio_error": max_ratio_error,
        "ratio_tolerance": RATIO_TOLERANCE,
        "max_gradient_difference": max_gradient_difference,
        "holds": max_ratio_error <= RATIO_TOLERANCE and max_gradient_difference <= GRADIENT_TOLERANCE,
    }


def measure_size(benchmark: str, config: BenchConfig, repeats: int) -> dict[str, Any]:
    """Measurement at one size."""
    work = make_benchmark(benchmark, config)
    error = max_difference(work)
    seconds = time_alternating(work, repeats, config.device)
    measured = statistics.median(b / a for a, b in zip(seconds["optimized"], seconds["reference"], strict=True))
    optimized, reference = (work.flops(form) for form in ("optimized", "reference"))
    assert optimized is not None and reference is not None
    return {
        "measured": measured,
        "formula": reference / optimized,
        "ratio_error": measured * optimized / reference - 1,
        "difference": error,
        **summarize_times(seconds),
    }


def format_point(record: dict[str, Any]) -> str:
    """Printed line of a measured size."""
    low, high = record["speedup_spread"]["reference"]
    return (
        f"  {record['field']:<8}{record['value']:>7}   measured {record['measured']:.2f} [{low:.2f}, {high:.2f}]"
        f"   formula {record['formula']:.2f}   {record['ratio_error']:+.0%}"
    )
