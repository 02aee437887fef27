"""textflow bench step"""

import json
from pathlib import Path
from typing import Literal


def bench(
    what: Literal["step"],
    size: Literal["P", "R", "B"] = "R",
    against: Literal["plain"] = "plain",
    repeats: int = 5,
    device: Literal["cpu", "cuda"] = "cpu",
    bf16: bool = False,
    threads: int = 1,
    rows: int | None = None,
    length: int | None = None,
    out: Path | None = None,
) -> None:
    """Measure the training step against the straightforward version, both in one run, alternating, medians.

    On a CPU seconds are those of the process, on a GPU those between two events; memory is the highest point of one
    step, above weights and batch, each form in a process of its own.

    Args:
        what: step: encoder, loss and gradients of one training step.
        size: P, R or B (ELF-B).
        against: plain: three passes on all rows, logits of all tokens.
        repeats: of each side.
        device: cpu or cuda.
        bf16: run the blocks in bfloat16.
        threads: of the CPU.
        rows: of the batch; default: the size's.
        length: tokens a row; default: the size's.
        out: a JSON file for the record.
    """
    import torch

    from textflow.eval.bench import bench_step

    torch.set_num_threads(threads)
    change = {key: value for key, value in {"rows": rows, "length": length}.items() if value}
    record = bench_step(size, repeats, device, bf16, change)
    seconds, peak = record["seconds"], record["peak_mb"]
    kind = f"{record['rows']} rows of {record['length']}, {'bf16' if bf16 else 'fp32'}"
    print(f"training step, size {size}, {kind}, {record['hardware']}, {threads} thread(s)")
    for measure, unit, pair, verdict in (
        ("time", "s", seconds, f"{record['speedup']:.2f} times faster"),
        ("memory", "MB", peak, f"{record['memory_ratio']:.2f} of it"),
    ):
        print(f"  {measure:<8}lean {pair['lean']:.4g} {unit}   {against} {pair['plain']:.4g} {unit}   {verdict}")
    print(f"  largest difference of the gradients: {record['gradient_error']:.1e} of the largest gradient")
    if out:
        out.write_text(json.dumps(record, indent=1) + "\n")
