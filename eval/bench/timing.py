"""Time, memory and agreement of a benchmark's variants."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from textflow.runtime.device import has_fast_bf16

from .benchmark import Benchmark, make_benchmark
from .flops import peak_flops
from .memory import measure_peak_memory
from .sizes import BenchConfig


def measure_benchmark(
    benchmark: str, config: BenchConfig, repeats: int, peak_memory: bool = True, optimized_only: bool = False
) -> dict[str, Any]:
    """Record of a benchmark: seconds per variant with spread, peak memory, difference between the variants."""
    work = make_benchmark(benchmark, config)
    if optimized_only:
        work.variants = ("optimized",)
        work.run("optimized")
    error = {} if optimized_only else {"difference": max_difference(work)}
    seconds = time_alternating(work, repeats, config.device)
    record = {"benchmark": benchmark, **bench_facts(config), "repeats": repeats, **summarize_times(seconds), **error}
    if peak_memory:
        peaks = {form: measure_peak_memory(benchmark, form, config) for form in work.variants}
        record["peak_mb"] = {form: value / 1e6 for form, value in peaks.items()}
        if not optimized_only:
            record["memory_ratio"] = peaks["optimized"] / peaks["reference"]
    logits = {"logits_mb": 4 * config.size.tokens * config.size.vocab / 1e6} if work.all_logits else {}
    return record | flops_and_mfu(work, record) | logits | work.extra_numbers()


def max_difference(benchmark: Benchmark) -> float:
    """Largest difference between the variants' results, relative to the largest result; also warms both up."""
    optimized, reference = benchmark.result("optimized"), benchmark.result("reference")
    for other in benchmark.variants[2:]:
        benchmark.run(other)
    return float((optimized - reference).abs().max() / reference.abs().max())


def time_alternating(benchmark: Benchmark, repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds per run of each variant, in alternating order."""
    seconds: dict[str, list[float]] = {form: [] for form in benchmark.variants}
    for _ in range(repeats):
        for form, values in seconds.items():
            values.append(time_call(lambda form=form: benchmark.run(form), device))  # type: ignore[misc]
    return seconds


def summarize_times(seconds: dict[str, list[float]], variant: str = "optimized") -> dict[str, Any]:
    """Median and range of the seconds, and speedups of the first variant: of the medians and pairwise."""
    middle = {form: statistics.median(values) for form, values in seconds.items()}
    others = [form for form in seconds if form != variant]
    ratios = {form: [b / a for a, b in zip(seconds[variant], seconds[form], strict=True)] for form in others}
    return {
        "seconds": middle,
        "spread": {form: [min(values), max(values)] for form, values in seconds.items()},
        "speedup": {form: middle[form] / middle[variant] for form in ratios},
        "speedup_spread": {form: [min(values), max(values)] for form, values in ratios.items()},
    }


def flops_and_mfu(benchmark: Benchmark, record: dict[str, Any]) -> dict[str, Any]:
    """FLOPs by formula, and useful MFU: minimum FLOPs over time, as a share of the GPU's peak where known."""
    flops = {form: benchmark.flops(form) for form in benchmark.variants}
    if flops["optimized"] is None:
        return {}
    entries: dict[str, Any] = {"flops": flops}
    if flops.get("reference"):
        entries["flops_ratio"] = flops["reference"] / flops["optimized"]  # type: ignore[operator]
    if peak := peak_flops(record["hardware"]):
        entries["mfu"] = {form: flops["optimized"] / seconds / peak for form, seconds in record["seconds"].items()}
    return entries


def bench_facts(config: BenchConfig) -> dict[str, Any]:
    """Size, precision, hardware and versions of a benchmark."""
    options = {key: value for key, value in asdict(config).items() if key != "size"}
    hardware = torch.cuda.get_device_name() if config.device == "cuda" else cpu_name()
    machine = {"threads": torch.get_num_threads(), "hardware": hardware, "torch": torch.__version__}
    fast = {"fast_bf16": has_fast_bf16(config.device)} if config.bf16 else {}
    return asdict(config.size) | options | machine | fast


def time_call(work: Callable[[], None], device: str) -> float:
    """Seconds of a call: CPU time of this process, or time between two CUDA events."""
    if device != "cuda":
        start = time.process_time()
        work()
        return time.process_time() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def cpu_name() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
