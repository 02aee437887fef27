"""What one card does, in under eight minutes: whole steps in ways from plain to fast, other benchmarks, the GPU tests.

`python -m textflow.eval.bench.gpu` does without what the command line needs.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from textflow.runtime.atomic import replace_json

from .sizes import SIZES, Setting, Size, words
from .subprocess import ran, record_in, tested
from .timing import facts

CARD = Size(768, 12, 12, 512, 128, 32_100, 6, 2048, 32, 1024)  # ELF-B as it is trained, 32 rows
BUDGET = 470.0  # seconds of all, ten less than eight minutes
TESTS = 60.0  # of these, kept for the tests
MOST = 100.0  # that one job may take, such as a compiler's first run
FEW = 3  # repeats of the other benchmarks
OTHERS = (  # contest, size, bf16; each form against the other
    ("optim", "B", False), ("pd", "B", True), ("decode", "B", True), ("step", "B", True), ("sample", "B", True),
    ("data", "R", False), ("scaling", "P", False),
)  # fmt: skip


class Job(NamedTuple):
    """What is measured in a process of its own.

    Args:
        name: as it is printed.
        bench: a contest, or scaling.
        form: that is measured alone; None compares the forms.
        setting: size, device, precision.
        repeats: of each form.
    """

    name: str
    bench: str
    form: str | None
    setting: Setting
    repeats: int

    @property
    def command(self) -> list[str]:
        """Of the process."""
        told = self._asdict() | {"setting": words(self.setting), "threads": torch.get_num_threads()}
        return [sys.executable, "-m", f"{__package__}.worker", json.dumps(told)]


def jobs(setting: Setting, repeats: int) -> list[Job]:
    """All that is measured, the most important first."""
    ways = [Job(name, bench, form, how, repeats) for name, bench, form, how in ways_of(setting)]
    others = (
        Job(f"{bench}, {size}", bench, None, Setting(SIZES[size], setting.device, bf16=bf16), FEW)
        for bench, size, bf16 in OTHERS
    )
    return [*ways, *others]


def ways_of(setting: Setting) -> Iterator[tuple[str, str, str, Setting]]:
    """Name, contest, form and setting of each way."""
    half = replace(setting, bf16=True)
    yield "train, lean, bf16", "train", "lean", half
    yield "train, plain, bf16", "train", "plain", half
    yield "train, lean, bf16, compiled", "train", "lean", replace(half, compiled=True)
    yield "train, lean, bf16, graphs", "train", "lean", replace(half, compiled="graphs")
    yield "train, lean, bf16, compiled, fused", "train", "lean", replace(half, compiled=True, kernels="liger")
    yield "train, lean, bf16 and TF32, compiled", "train", "lean", replace(half, compiled=True, tf32=True)
    yield "train, lean, bf16, recomputed", "train", "lean", replace(half, recompute=True)
    yield "train, lean, fp32", "train", "lean", setting
    yield "distil, lean, bf16", "pd", "lean", half
    yield "sample, lean, bf16", "sample", "lean", half


def card(
    setting: Setting, repeats: int, budget: float = BUDGET, tell: Callable[[str], None] = lambda line: None,
    save: Callable[[dict[str, Any]], None] = lambda record: None,
) -> dict[str, Any]:  # fmt: skip
    """The record of a card. What fails or outlasts its time is named with its reason, and the rest goes on.

    Args:
        setting: size and device.
        repeats: of each way, after two that are not counted.
        budget: seconds of wall time of all.
        tell: is told each job when it is there.
        save: is given the record after each job.
    """
    start, found = time.monotonic(), list[dict[str, Any]]()
    record = {"bench": "card", **facts(setting), "repeats": repeats, "ways": found}

    def left() -> float:
        return budget - (time.monotonic() - start)

    for job in jobs(setting, repeats):
        found.append({"way": job.name} | ran(job.command, min(MOST, left() - TESTS), record_in))
        tell(line(found[-1]))
        save(record | {"wall": budget - left()})
    found.append({"way": "GPU tests"} | tested(setting.device, left()))
    tell(line(found[-1]))
    record["wall"] = budget - left()
    save(record)
    return record


def line(one: dict[str, Any]) -> str:
    """A job as it is printed."""
    start = f"  {one['way']:<38}"
    if "left_out" in one or "said" in one:
        return start + one.get("left_out", one.get("said", ""))
    if "worst" in one:
        return start + f"the step's ratio is within {one['worst']:.0%} of the FLOP formula's"
    if "speedup" in one:
        ratios = (f"{ratio:.2f} times as fast as {form}" for form, ratio in one["speedup"].items())
        return start + f"lean is {', '.join(ratios)}; the forms differ by {one['difference']:.1e}"
    low, high = one["spread"]
    said = f"{one['tokens_a_second']:>10,.0f} tokens/s   {one['seconds']:.3g} s [{low:.3g}, {high:.3g}]"
    said += f"   useful MFU {one['mfu']:.1%}" if "mfu" in one else f"   {one['flops_a_second'] / 1e12:.3g} TFLOP/s"
    return start + said + (f"   {one['peak_mb']:,.0f} MB" if "peak_mb" in one else "")


def write_card(setting: Setting, repeats: int, out: Path | None, tell: Callable[[str], None]) -> None:
    """`card`, written whole after each job.

    Args:
        setting: size and device.
        repeats: of each way.
        out: file of the record; default: eval/published/bench_card_<card>.json in a checkout on a GPU, else the same
            name in checkpoints/bench.
        tell: is told what is done.
    """
    hardware = facts(setting)["hardware"]
    size, path = setting.size, out or place(setting.device, hardware)
    path.parent.mkdir(parents=True, exist_ok=True)
    tell(f"ELF, width {size.width}, {size.rows} rows of {size.length}, on {hardware}")
    card(setting, repeats, tell=tell, save=lambda record: replace_json(path, record))
    tell(f"Written: {path}")


def place(device: str, hardware: str) -> Path:
    """Where the record of a card goes."""
    published = Path("eval/published")
    folder = published if device == "cuda" and published.is_dir() else Path("checkpoints/bench")
    return folder / f"bench_card_{re.sub(r'[^A-Za-z0-9]+', '_', hardware).strip('_')}.json"


def main(args: list[str] | None = None) -> None:
    """The script, without the packages that the command line needs."""
    parser = argparse.ArgumentParser(prog="python -m textflow.eval.bench.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--repeats", type=int, default=5, help="of each way")
    parser.add_argument("--rows", type=int, default=CARD.rows, help="of the batch")
    parser.add_argument("--length", type=int, default=CARD.length, help="tokens a row")
    parser.add_argument("--out", type=Path, help="file of the record")
    given = parser.parse_args(args)
    size = replace(CARD, rows=given.rows, length=given.length)
    write_card(Setting(size, given.device), given.repeats, given.out, partial(print, flush=True))


if __name__ == "__main__":
    main()
