"""What one card does: tokens a second, useful MFU and memory of whole training steps, in ways from plain to fast."""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from .contests import CONTESTS
from .flops import peak
from .measure import alternate, facts, times
from .sizes import Setting, Size

CARD = Size(768, 12, 12, 512, 128, 32_100, 6, 2048, 32, 1024)  # ELF-B as it is trained, 32 rows


def ways(setting: Setting) -> Iterator[tuple[str, str, str, Setting]]:
    """Name, contest, form and setting of each way."""
    half = replace(setting, bf16=True)
    yield "train, lean, bf16", "train", "lean", half
    yield "train, plain, bf16", "train", "plain", half
    yield "train, lean, bf16, compiled", "train", "lean", replace(half, compiled=True)
    yield "train, lean, bf16, graphs", "train", "lean", replace(half, compiled="graphs")
    yield "train, lean, bf16, compiled, fused", "train", "lean", replace(half, compiled=True, kernels="liger")
    yield "train, lean, bf16, recomputed", "train", "lean", replace(half, recompute=True)
    yield "train, lean, fp32", "train", "lean", setting
    yield "distil, lean, bf16", "pd", "lean", half
    yield "sample, lean, bf16", "sample", "lean", half


def card(
    setting: Setting, repeats: int, budget: float = 420.0, tell: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """The record of a card; a way that does not fit or cannot run is named with its error, and none begins after the
    budget.

    Args:
        setting: size and device.
        repeats: of each way, after two that are not counted.
        budget: seconds of wall time.
        tell: is told each way when it is there.
    """
    start, found = time.monotonic(), []
    for name, bench, form, how in ways(setting):
        if time.monotonic() - start > budget:
            found.append({"way": name, "left_out": f"{budget:.0f} s were over"})
        else:
            found.append({"way": name} | run(bench, form, how, repeats))
        tell(line(found[-1]))
    return {"bench": "card", **facts(setting), "repeats": repeats, "ways": found}


def run(bench: str, form: str, setting: Setting, repeats: int) -> dict[str, Any]:
    """One way."""
    try:
        return measured(bench, form, setting, repeats)
    except torch.cuda.OutOfMemoryError as error:
        return {"left_out": f"out of memory: {' '.join(str(error).split())[:160]}"}
    except ValueError as error:  # such as no GPU, or no package
        return {"left_out": str(error)}
    finally:
        gc.collect()
        if setting.device == "cuda":
            torch.cuda.empty_cache()


def measured(bench: str, form: str, setting: Setting, repeats: int) -> dict[str, Any]:
    """Seconds, tokens a second, memory and useful MFU."""
    contest = CONTESTS[bench](setting)
    for _ in range(2):
        contest.run(form)
    contest.forms = (form,)
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = times(alternate(contest, repeats, setting.device), form)
    seconds = found["seconds"][form]
    record = {"seconds": seconds, "spread": found["spread"][form], "tokens_a_second": setting.size.tokens / seconds}
    if setting.device == "cuda":
        record["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    useful = contest.flops("lean")
    assert useful is not None
    record["flops_a_second"] = useful / seconds
    return record | share(record, setting)


def share(record: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Useful MFU, where the card's peak is known."""
    top = peak(facts(setting)["hardware"])
    return {} if top is None else {"mfu": record["flops_a_second"] / top}


def line(one: dict[str, Any]) -> str:
    """A way as it is printed."""
    if "left_out" in one:
        return f"  {one['way']:<36}{one['left_out']}"
    low, high = one["spread"]
    said = (
        f"  {one['way']:<36}{one['tokens_a_second']:>10,.0f} tokens/s   {one['seconds']:.3g} s [{low:.3g}, {high:.3g}]"
    )
    said += f"   useful MFU {one['mfu']:.1%}" if "mfu" in one else f"   {one['flops_a_second'] / 1e12:.3g} TFLOP/s"
    return said + (f"   {one['peak_mb']:,.0f} MB" if "peak_mb" in one else "")
