"""textflow bench step|train|distill|optimizer|sample|decode|dataloader|scaling|gpu"""

from pathlib import Path
from typing import Any, Literal

from .options import require_positive


def bench(
    what: Literal["step", "train", "distill", "optimizer", "sample", "decode", "dataloader", "scaling", "gpu"],
    size: Literal["P", "R", "B"] = "R",
    system: Literal["elf", "flm", "langflow", "cola", "mdlm", "duo"] = "elf",
    baseline: Literal["reference", "none"] = "reference",
    repeats: int = 5,
    device: Literal["cpu", "cuda"] | None = None,
    bf16: bool = False,
    compile: bool | Literal["graphs"] = False,
    kernels: Literal["torch", "liger"] = "torch",
    activation_checkpointing: bool = False,
    threads: int = 1,
    rows: int | None = None,
    length: int | None = None,
    depth: int | None = None,
    steps: int = 8,
    peak_memory: bool = True,
    out: Path | None = None,
) -> None:
    """Measure the speed and memory of a component against its reference implementation.

    Both variants alternate in one run and medians are reported. Times are CPU time of the process, or CUDA events on a
    GPU. Memory is the peak of one run above weights and batch, with each variant in its own process.

    Args:
        what: component to measure: step (encoder, loss and gradients of a training step), train (step and optimizer
            update), distill (a step of progressive distillation), optimizer (the update), sample (a batch of texts),
            decode (final latents to tokens), dataloader (rows on disk to batches), scaling (speedup of step over
            length, vocabulary, width and depth, against the FLOP formula), or gpu (tokens per second, MFU and memory of
            ELF-B at 1,024 tokens on one GPU, all of the above and the GPU tests, in under eight minutes).
        size: model size: P (small), R (small, with ELF's vocabulary) or B (ELF-B).
        system: system whose step or sample is measured: elf, flm, langflow, cola (sample alone), mdlm or duo (step
            alone), each at a size of its own, against a straightforward form.
        baseline: variant to compare with: reference (the algorithm as published: three passes over all rows, logits of
            all tokens, matrices updated one by one) or none (measure the optimized variant alone).
        repeats: number of repetitions per variant.
        device: device to run on: cpu or cuda; default: cpu, for gpu cuda.
        bf16: run the blocks in bfloat16, and measure the reference in fp32 as well; warns if bfloat16 is slow here.
        compile: compile the blocks of the optimized variant; graphs also captures CUDA graphs.
        kernels: kernels for norms and gates in the optimized variant: PyTorch's or liger-kernel's.
        activation_checkpointing: recompute activations in the backward pass of the optimized variant.
        threads: number of CPU threads.
        rows: number of rows in the batch; default: set by the size.
        length: number of tokens in a row; default: set by the size.
        depth: number of transformer blocks; default: set by the size.
        steps: number of sampling steps for sample; for distill, number of teacher substeps in a student step.
        peak_memory: measure peak memory as well.
        out: JSON file; default: checkpoints/bench/NAME.json; for gpu in a checkout eval/published/bench_gpu_NAME.json.
    """
    require_positive(threads=threads, repeats=repeats, rows=rows, length=length, depth=depth, steps=steps)
    device = device or ("cuda" if what == "gpu" else "cpu")
    changes: dict[str, int | None] = {"rows": rows, "length": length, "depth": depth}
    options = {"device": device, "bf16": bf16, "compile": compile, "kernels": kernels, "steps": steps}
    options["activation_checkpointing"] = activation_checkpointing
    measure(system, what, size, changes, options, repeats, threads, peak_memory, baseline == "none", out)


def measure(
    system: str,
    what: str,
    size: str,
    size_changes: dict[str, int | None],
    options: dict[str, Any],
    repeats: int,
    threads: int,
    peak_memory: bool,
    optimized_only: bool,
    out: Path | None,
) -> None:
    """Run one benchmark, and write its record."""
    import torch

    from textflow.eval.bench.systems import find_benchmark

    torch.set_num_threads(threads)
    device, bf16 = options["device"], options["bf16"]
    if system == "elf" and what == "gpu":
        return bench_gpu(device, repeats, size_changes, options["steps"], out)
    if system == "elf" and what == "scaling":
        return write_record(run_scaling(device, repeats), [what], bf16, device, out)
    part = find_benchmark(system, what)
    record = run_benchmark(part, size, size_changes, options, repeats, peak_memory, optimized_only)
    return write_record(record, [part, size], bf16, device, out)


def write_record(record: dict[str, Any], names: list[str], bf16: bool, device: str, out: Path | None) -> None:
    """Write a record to `out`, or to a file in checkpoints/bench named by what was measured."""
    from textflow.runtime.atomic import atomic_write_json

    name = "_".join([*names, *(["bf16"] if bf16 else []), device])
    path = out or Path("checkpoints/bench") / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, record)
    print(f"Written: {path}")


def run_benchmark(
    part: str,
    size: str,
    size_changes: dict[str, int | None],
    options: dict[str, Any],
    repeats: int,
    peak_memory: bool,
    optimized_only: bool,
) -> dict[str, Any]:
    """Benchmark one component at one size."""
    from textflow.eval.bench.sizes import make_config
    from textflow.eval.bench.timing import measure_benchmark
    from textflow.runtime.device import bf16_warning

    config = make_config(size, size_changes, part, **options)
    if config.bf16 and (slow := bf16_warning(config.device)):
        print(f"{slow}; ratios differ on hardware with bf16 support")
    record = {"size": size} | measure_benchmark(part, config, repeats, peak_memory, optimized_only)
    print(format_record(record))
    return record


def run_scaling(device: str, repeats: int) -> dict[str, Any]:
    """Benchmark the training step over model sizes."""
    from textflow.eval.bench.memory import disable_heap_trim
    from textflow.eval.bench.scaling import GRADIENT_TOLERANCE, RATIO_TOLERANCE, measure_scaling

    retained = disable_heap_trim()
    freed = "retained" if retained else "returned"
    print(f"time of reference / optimized, measured and from the FLOP formula (freed memory is {freed})")
    record = measure_scaling("step", device, repeats, log=print) | {"heap_retained": retained}
    errors = f"{record['max_ratio_error']:.0%}, of gradients {record['max_gradient_difference']:.1e}"
    verdict = "holds" if record["holds"] else "does not hold"
    print(f"  largest difference {errors}: within {RATIO_TOLERANCE:.0%} and {GRADIENT_TOLERANCE:.0e} {verdict}")
    return record


def bench_gpu(device: str, repeats: int, size_changes: dict[str, int | None], steps: int, out: Path | None) -> None:
    """Benchmark ELF-B on one GPU."""
    from dataclasses import replace

    from textflow.eval.bench.gpu import GPU_SIZE, write_gpu_record
    from textflow.eval.bench.sizes import BenchConfig

    size = replace(GPU_SIZE, **{key: value for key, value in size_changes.items() if value is not None})
    write_gpu_record(BenchConfig(size, device, steps=steps), repeats, out, print)


def format_record(record: dict[str, Any]) -> str:
    """Format a record for printing."""
    kind = f"{record['rows']} rows of {record['length']}, {'bf16' if record['bf16'] else 'fp32'}"
    hardware = f"{record['hardware']}, {record['threads']} thread(s)"
    lines = [f"{record['benchmark']}, size {record['size']}, {kind}, {hardware}"]
    for variant, seconds in record["seconds"].items():
        low, high = record["spread"][variant]
        line = f"  {variant:<12}{seconds:8.4g} s [{low:.4g}, {high:.4g}]"
        if "peak_mb" in record:
            line += f"   {record['peak_mb'][variant]:8.4g} MB"
        if "mfu" in record:
            line += f"   useful MFU {record['mfu'][variant]:.1%}"
        lines.append(line)
    for variant, ratio in record["speedup"].items():
        low, high = record["speedup_spread"][variant]
        lines.append(f"  optimized is {ratio:.2f} times as fast as {variant} [{low:.2f}, {high:.2f}]")
    lines += [f"  {name.replace('_', ' ')} {value:.4g}" for name, value in record.items() if name.endswith("per_batch")]
    for key, template in (
        ("flops_ratio", "  {:.2f} times by the FLOP formula"),
        ("memory_ratio", "  peak memory {:.2g} of the reference's"),
        ("logits_mb", "  a float32 number for each position and token takes {:,.0f} MB: the reference needs more"),
        ("difference", "  the variants differ by {:.1e} of the largest value"),
    ):
        if key in record:
            lines.append(template.format(record[key]))
    return "\n".join(lines)
