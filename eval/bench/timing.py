"""Time, memory and agreement of the forms of a contest."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from textflow.runtime.device import fast_bf16

from .benchmark import Contest
from .contests import named
from .flops import peak
from .memory import peak_memory
from .sizes import Setting


def measure(bench: str, setting: Setting, repeats: int, memory: bool = True, alone: bool = False) -> dict[str, Any]:
    """The record of a contest: seconds of each form and their spread, peak memory, the forms' difference.

    Args:
        bench: its name.
        setting: size, device, precision.
        repeats: of each form, alternating.
        memory: whether the peaks are measured, each in a process of its own.
        alone: whether the lean form is measured alone.
    """
    contest = named(bench, setting)
    error = alone_or_not(contest, alone)
    seconds = alternate(contest, repeats, setting.device)
    record = {"bench": bench, **facts(setting), "repeats": repeats, **times(seconds), **error}
    if memory:
        peaks = {form: peak_memory(bench, form, setting) for form in contest.forms}
        record["peak_mb"] = {form: value / 1e6 for form, value in peaks.items()}
        if not alone:
            record["memory_ratio"] = peaks["lean"] / peaks["plain"]
    return record | work(contest, record) | contest.figures()


def alone_or_not(contest: Contest, alone: bool) -> dict[str, float]:
    """Warms the forms up, and compares them where there are several."""
    if not alone:
        return {"difference": disagreement(contest)}
    contest.forms = ("lean",)
    contest.run("lean")
    return {}


def disagreement(contest: Contest) -> float:
    """Largest difference between the forms' answers, as a share of the largest answer; it warms both up, too."""
    lean, plain = contest.answer("lean"), contest.answer("plain")
    for other in contest.forms[2:]:
        contest.run(other)
    return float((lean - plain).abs().max() / plain.abs().max())


def alternate(contest: Contest, repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of each form, the forms taking turns."""
    seconds: dict[str, list[float]] = {form: [] for form in contest.forms}
    for _ in range(repeats):
        for form, values in seconds.items():
            values.append(clocked(lambda form=form: contest.run(form), device))  # type: ignore[misc]
    return seconds


def times(seconds: dict[str, list[float]], first: str = "lean") -> dict[str, Any]:
    """Medians, smallest and largest, and how much faster the first form is: of the medians, and pair by pair."""
    middle = {form: statistics.median(values) for form, values in seconds.items()}
    others = [form for form in seconds if form != first]
    ratios = {form: [b / a for a, b in zip(seconds[first], seconds[form], strict=True)] for form in others}
    return {
        "seconds": middle,
        "spread": {form: [min(values), max(values)] for form, values in seconds.items()},
        "speedup": {form: middle[form] / middle[first] for form in ratios},
        "speedup_spread": {form: [min(values), max(values)] for form, values in ratios.items()},
    }


def work(contest: Contest, record: dict[str, Any]) -> dict[str, Any]:
    """FLOPs by formula, and useful MFU: the least work over the time, as a share of the card's peak, where known."""
    flops = {form: contest.flops(form) for form in contest.forms}
    if flops["lean"] is None:
        return {}
    found: dict[str, Any] = {"flops": flops}
    if flops.get("plain"):
        found["flops_ratio"] = flops["plain"] / flops["lean"]  # type: ignore[operator]
    top = peak(record["hardware"])
    if top is None:
        return found
    return found | {"mfu": {form: flops["lean"] / seconds / top for form, seconds in record["seconds"].items()}}


def facts(setting: Setting) -> dict[str, Any]:
    """What was run on what."""
    how = {key: value for key, value in asdict(setting).items() if key != "size"}
    hardware = torch.cuda.get_device_name() if setting.device == "cuda" else processor()
    return asdict(setting.size) | how | {
        "threads": torch.get_num_threads(),
        "hardware": hardware,
        "torch": torch.__version__,
    } | ({"fast_bf16": fast_bf16(setting.device)} if setting.bf16 else {})  # fmt: skip


def clocked(work: Callable[[], None], device: str) -> float:
    """Seconds of work: of this process's CPU time, or between two CUDA events."""
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


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
