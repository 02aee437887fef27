"""Speed and memory of the lean training step against the plain one: both in one run, alternating, medians."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from textflow.nets import ELF, Frozen
from textflow.objectives import Draws, ELFObjective
from textflow.objectives.plain import plain_loss
from textflow.paths import Linear
from textflow.types import Batch


@dataclass(frozen=True)
class Size:
    """A network, its encoder and its batch.

    Args:
        width, depth, heads: of the network.
        dim: width of the latents and of the encoder.
        bottleneck: of the network's input.
        vocab: number of tokens.
        layers, hidden: of the encoder.
        rows, length: of the batch.
    """

    width: int
    depth: int
    heads: int
    dim: int
    bottleneck: int
    vocab: int
    layers: int
    hidden: int
    rows: int
    length: int


SIZES = {
    "P": Size(256, 8, 4, 160, 48, 7_168, 6, 640, 20, 128),
    "R": Size(256, 6, 4, 512, 128, 32_100, 6, 2048, 20, 128),
    "B": Size(768, 12, 12, 512, 128, 32_100, 6, 2048, 10, 256),
}


class Step:
    """One training step's loss and gradients, the encoder included; lean and plain see the same draws."""

    def __init__(self, size: Size, device: str, bf16: bool) -> None:
        from transformers import T5Config, T5EncoderModel

        torch.manual_seed(0)
        config = T5Config(
            vocab_size=size.vocab, d_model=size.dim, d_kv=size.dim // 8, d_ff=size.hidden, num_layers=size.layers,
            num_heads=8, dropout_rate=0.0,
        )  # fmt: skip
        self.encoder = Frozen(T5EncoderModel(config)).to(device)
        self.net = ELF(size.dim, size.vocab, size.width, size.depth, size.heads, size.bottleneck).to(device)
        torch.nn.init.normal_(self.net.out.weight, std=0.02)  # a trained net's last layer is not zero
        self.objective, self.path = ELFObjective(coins="stratified"), Linear()
        ids = torch.randint(size.vocab, (size.rows, size.length), device=device)
        self.batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool))
        self.draws: Draws = self.objective.draw(torch.zeros(size.rows, size.length, size.dim, device=device))
        self.device, self.bf16 = device, bf16

    def run(self, form: str) -> None:
        """Loss and gradients by the `lean` or the `plain` form."""
        self.net.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            with torch.no_grad():
                x = self.encoder(input_ids=self.batch.ids).last_hidden_state.float() / 0.2
            parts = (self.net, self.path, x, self.batch, self.draws)
            losses = self.objective.loss(*parts) if form == "lean" else plain_loss(self.objective, *parts)
        losses["loss"].backward()  # type: ignore[no-untyped-call]

    def gradients(self, form: str) -> torch.Tensor:
        """All gradients of a form, flat."""
        self.run(form)
        return torch.cat([p.grad.flatten().float() for p in self.net.parameters() if p.grad is not None])


def bench_step(
    name: str, repeats: int, device: str, bf16: bool, change: dict[str, int] | None = None
) -> dict[str, Any]:
    """Time, peak memory and gradients of the lean step against the plain one.

    Args:
        name: P, R or B.
        repeats: of each side, alternating.
        device: cpu or cuda.
        bf16: autocast the blocks.
        change: other values for fields of the size.
    """
    size = replace(SIZES[name], **(change or {}))
    step = Step(size, device, bf16)
    lean, plain = step.gradients("lean"), step.gradients("plain")
    seconds: dict[str, list[float]] = {"lean": [], "plain": []}
    for _ in range(repeats):
        for form in seconds:
            seconds[form].append(clocked(lambda form=form: step.run(form), device))  # type: ignore[misc]
    middle = {form: statistics.median(values) for form, values in seconds.items()}
    peak = {form: peak_memory(name, form, device, bf16, change or {}) for form in seconds}
    return {
        "bench": "step",
        "size": name,
        **asdict(size),
        "bf16": bf16,
        "seconds": middle,
        "spread": {form: [min(values), max(values)] for form, values in seconds.items()},
        "speedup": middle["plain"] / middle["lean"],
        "peak_mb": {form: bytes_ / 1e6 for form, bytes_ in peak.items()},
        "memory_ratio": peak["lean"] / peak["plain"],
        "gradient_error": float((lean - plain).abs().max() / plain.abs().max()),
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "hardware": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "torch": torch.__version__,
    }


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


def peak_memory(name: str, form: str, device: str, bf16: bool, change: dict[str, int]) -> int:
    """Bytes above what weights and batch take, at the highest point of one step in a fresh process."""
    words = json.dumps({"name": name, "form": form, "device": device, "bf16": bf16, "change": change})
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # freed is given back
    child = subprocess.run(
        [sys.executable, "-m", "textflow.eval.bench", words], capture_output=True, text=True, env=exact
    )
    if child.returncode:
        raise ValueError(f"the memory of the {form} step could not be measured: {child.stderr.strip()[-300:]}")
    return int(child.stdout.split()[-1])


def own_peak(name: str, form: str, device: str, bf16: bool, change: dict[str, int]) -> int:
    """`peak_memory` of this process."""
    torch.set_num_threads(1)
    step = Step(replace(SIZES[name], **change), device, bf16)
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step.run(form)
        return torch.cuda.max_memory_allocated() - before
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    step.run(form)
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Bytes of a memory field of this process (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    print(own_peak(**json.loads(sys.argv[1])))
