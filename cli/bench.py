"""textflow bench step|train|pd|optim|sample|decode|data|scaling|card"""

from pathlib import Path
from typing import Any, Literal


def bench(
    what: Literal["step", "train", "pd", "optim", "sample", "decode", "data", "scaling", "card"],
    size: Literal["P", "R", "B"] = "R",
    against: Literal["plain", "none"] = "plain",
    repeats: int = 5,
    device: Literal["cpu", "cuda"] | None = None,
    bf16: bool = False,
    compiled: bool | Literal["graphs"] = False,
    kernels: Literal["torch", "liger"] = "torch",
    recompute: bool = False,
    threads: int = 1,
    rows: int | None = None,
    length: int | None = None,
    depth: int | None = None,
    steps: int = 8,
    memory: bool = True,
    out: Path | None = None,
) -> None:
    """Measure a part against its straightforward version, both in one run, alternating, medians.

    On a CPU seconds are those of the process, on a GPU those between two events; memory is the highest point of one
    run, above weights and batch, each form in a process of its own.

    Args:
        what: step: encoder, loss and gradients of one training step; train: and the update; pd: one step of
            progressive distillation; optim: the update; sample: a batch of texts; decode: final latents to tokens;
            data: rows on disk to batches; scaling: the step's ratio against the FLOP formula over length, vocabulary,
            width and depth; card: tokens a second, MFU and memory of ELF-B at 1,024 tokens on one GPU, all of the
            above and the GPU tests, in under eight minutes (also: python -m textflow.eval.bench.gpu).
        size: P, R or B (ELF-B).
        against: plain: as published; three passes on all rows, logits of all tokens, one matrix after another. none:
            the lean form alone.
        repeats: of each side.
        device: cpu or cuda; default: cpu, of a card cuda.
        bf16: run the blocks in bfloat16; plain runs in fp32, too. Slow where the hardware has no instructions for it,
            which is said.
        compiled: compile the lean form's blocks; graphs: as CUDA graphs too.
        kernels: of the lean form's norms and gates: torch's or liger-kernel's.
        recompute: the lean form keeps the inputs of its blocks alone.
        threads: of the CPU.
        rows: of the batch; default: the size's.
        length: tokens a row; default: the size's.
        depth: blocks; default: the size's.
        steps: of the teacher on one step of its student, or of a sample.
        memory: measure the peaks, too.
        out: file of the record; default: checkpoints/bench/<what and how>.json; of a GPU in a checkout, where what is
            card: eval/published/bench_card_<its name>.json.
    """
    import torch

    from textflow.eval.bench.sizes import setting
    from textflow.runtime.atomic import replace_json

    from .options import at_least_one

    at_least_one(threads=threads, repeats=repeats, rows=rows, length=length, depth=depth, steps=steps)
    torch.set_num_threads(threads)
    change = {"rows": rows, "length": length, "depth": depth}
    how = {"bf16": bf16, "compiled": compiled, "kernels": kernels, "recompute": recompute, "steps": steps}
    device = device or ("cuda" if what == "card" else "cpu")
    if what == "card":
        on_card(device, repeats, change, steps, out)
        return
    if what == "scaling":
        record = over_sizes(device, repeats)
    else:
        record = contest(what, size, setting(size, change, device=device, **how), repeats, memory, against == "none")
    name = "_".join([what, *([] if what == "scaling" else [size]), *(["bf16"] if bf16 else []), device])
    path = out or Path("checkpoints/bench") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_json(path, record)
    print(f"Written: {path}")


def contest(what: str, size: str, chosen: Any, repeats: int, memory: bool, alone: bool) -> dict[str, Any]:
    """One part at one size."""
    from textflow.eval.bench.timing import measure
    from textflow.runtime.device import slow_bf16

    if chosen.bf16 and (slow := slow_bf16(chosen.device)):
        print(f"{slow}; ratios are not those of one that has it")
    record = {"size": size} | measure(what, chosen, repeats, memory, alone)
    print(report(record))
    return record


def over_sizes(device: str, repeats: int) -> dict[str, Any]:
    """The step over sizes."""
    from textflow.eval.bench.memory import keep_heap
    from textflow.eval.bench.scaling import ALIKE, NEAR, scaling

    kept = keep_heap()
    print(f"times plain / lean, measured and by the FLOP formula (freed memory is {'kept' if kept else 'given back'})")
    record = scaling("step", device, repeats, tell=print) | {"heap_kept": kept}
    verdict = "holds" if record["holds"] else "does not hold"
    print(f"  largest difference {record['worst']:.0%}, of gradients {record['differs']:.1e}:", end=" ")
    print(f"within {NEAR:.0%} and {ALIKE:.0e} {verdict}")
    return record


def on_card(device: str, repeats: int, change: dict[str, int | None], steps: int, out: Path | None) -> None:
    """ELF-B as it is trained."""
    from dataclasses import replace

    from textflow.eval.bench.gpu import CARD, write_card
    from textflow.eval.bench.sizes import Setting

    size = replace(CARD, **{key: value for key, value in change.items() if value is not None})
    write_card(Setting(size, device, steps=steps), repeats, out, print)


def report(record: dict[str, Any]) -> str:
    """What is printed of a record."""
    kind = f"{record['rows']} rows of {record['length']}, {'bf16' if record['bf16'] else 'fp32'}"
    lines = [f"{record['bench']}, size {record['size']}, {kind}, {record['hardware']}, {record['threads']} thread(s)"]
    for form, seconds in record["seconds"].items():
        low, high = record["spread"][form]
        line = f"  {form:<12}{seconds:8.4g} s [{low:.4g}, {high:.4g}]"
        if "peak_mb" in record:
            line += f"   {record['peak_mb'][form]:8.4g} MB"
        if "mfu" in record:
            line += f"   useful MFU {record['mfu'][form]:.1%}"
        lines.append(line)
    for form, ratio in record["speedup"].items():
        low, high = record["speedup_spread"][form]
        lines.append(f"  lean is {ratio:.2f} times as fast as {form} [{low:.2f}, {high:.2f}]")
    lines += [f"  {name.replace('_', ' ')} {value:.4g}" for name, value in record.items() if name.endswith("a_batch")]
    for key, words in (
        ("flops_ratio", "  by the FLOP formula {:.2f} times"),
        ("memory_ratio", "  peak memory {:.2g} of plain's"),
        ("difference", "  the forms differ by {:.1e} of the largest value"),
    ):
        if key in record:
            lines.append(words.format(record[key]))
    return "\n".join(lines)
