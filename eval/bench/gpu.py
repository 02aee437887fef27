"""GPU benchmark in under eight minutes: full steps from reference to fast settings, other benchmarks, the GPU tests.

`python -m textflow.eval.bench.gpu` runs without the packages that the command line needs.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from textflow.runtime.atomic import atomic_write_json

from .sizes import BenchConfig, ModelSize, make_config
from .subprocess import parse_record, run_command, run_gpu_tests
from .timing import bench_facts

GPU_SIZE = ModelSize(768, 12, 12, 512, 128, 32_100, 6, 2048, 32, 1024)  # ELF-B as it is trained, 32 rows
TIME_BUDGET = 470.0  # total seconds, ten less than eight minutes
TEST_TIME = 60.0  # seconds reserved for the tests
MAX_JOB_TIME = 100.0  # seconds per job, compilation included
OTHER_REPEATS = 3  # repeats of the other benchmarks
OTHER_BENCHMARKS = (  # benchmark, size, bf16; each variant against the other
    ("optimizer", "B", False), ("distill", "B", True), ("decode", "B", True), ("step", "B", True),
    ("sample", "B", True), ("dataloader", "R", False), ("scaling", "P", False),
    ("flm_step", "R", False), ("flm_sample", "R", False), ("langflow_step", "R", False),
    ("langflow_sample", "R", False), ("cola_sample", "R", False), ("mdlm_step", "R", False), ("duo_step", "R", False),
)  # fmt: skip


class BenchJob(NamedTuple):
    """Measurement that runs in its own process.

    Args:
        name: name of the job in the record.
        benchmark: benchmark name, or scaling.
        variant: variant to measure alone; None compares all variants.
        config: size, device and precision.
        repeats: number of timed repeats.
    """

    name: str
    benchmark: str
    variant: str | None
    config: BenchConfig
    repeats: int

    @property
    def command(self) -> list[str]:
        """Command line of the process."""
        job = self._asdict() | {"config": asdict(self.config), "threads": torch.get_num_threads()}
        return [sys.executable, "-m", f"{__package__}.worker", json.dumps(job)]


def make_jobs(config: BenchConfig, repeats: int) -> list[BenchJob]:
    """All jobs, the most important first."""
    jobs = [BenchJob(*variant, repeats) for variant in training_variants(config)]
    others = (
        BenchJob(
            f"{bench}, {size}",
            bench,
            None,
            make_config(size, None, bench, device=config.device, bf16=bf16),
            OTHER_REPEATS,
        )
        for bench, size, bf16 in OTHER_BENCHMARKS
    )
    return [*jobs, *others]


def training_variants(config: BenchConfig) -> Iterator[tuple[str, str, str, BenchConfig]]:
    """Name, benchmark, variant and config of each training setting."""
    half = replace(config, bf16=True)
    yield "train, optimized, bf16", "train", "optimized", half
    yield "train, reference, bf16", "train", "reference", half
    yield "train, optimized, bf16, compiled", "train", "optimized", replace(half, compile=True)
    yield "train, optimized, bf16, graphs", "train", "optimized", replace(half, compile="graphs")
    yield "train, optimized, bf16, compiled, fused", "train", "optimized", replace(half, compile=True, kernels="liger")
    yield "train, optimized, bf16 and TF32, compiled", "train", "optimized", replace(half, compile=True, tf32=True)
    yield "train, optimized, bf16, recomputed", "train", "optimized", replace(half, activation_checkpointing=True)
    yield "train, optimized, fp32", "train", "optimized", config
    yield "distil, optimized, bf16", "distill", "optimized", half
    yield "sample, optimized, bf16", "sample", "optimized", half


def run_gpu_benchmark(
    config: BenchConfig, repeats: int, budget: float = TIME_BUDGET, log: Callable[[str], None] = lambda line: None,
    save: Callable[[dict[str, Any]], None] = lambda record: None,
) -> dict[str, Any]:  # fmt: skip
    """Record of a GPU; a job that fails or times out is listed with its reason, and the others continue.

    Args:
        config: size, device and precision.
        repeats: number of timed repeats per setting, after two warm-up runs.
        budget: total wall time, seconds.
        log: callback for a line of progress.
        save: callback for the record after each job.
    """
    start, records = time.monotonic(), list[dict[str, Any]]()
    record = {"benchmark": "gpu", **bench_facts(config), "repeats": repeats, "runs": records}

    def left() -> float:
        return budget - (time.monotonic() - start)

    for job in make_jobs(config, repeats):
        timeout = min(MAX_JOB_TIME, left() - TEST_TIME)
        records.append({"run": job.name} | run_command(job.command, timeout, parse_record))
        log(format_job(records[-1]))
        save(record | {"wall_seconds": budget - left()})
    records.append({"run": "GPU tests"} | run_gpu_tests(config.device, left()))
    log(format_job(records[-1]))
    record["wall_seconds"] = budget - left()
    save(record)
    return record


def format_job(record: dict[str, Any]) -> str:
    """Printed line of a job."""
    start = f"  {record['run']:<38}"
    if "skipped" in record or "summary" in record:
        return start + record.get("skipped", record.get("summary", ""))
    if "max_ratio_error" in record:
        return start + f"the step's ratio is within {record['max_ratio_error']:.0%} of the FLOP formula's"
    if "speedup" in record:
        ratios = (f"{ratio:.2f} times as fast as {form}" for form, ratio in record["speedup"].items())
        return start + f"optimized is {', '.join(ratios)}; the variants differ by {record['difference']:.1e}"
    low, high = record["spread"]
    rates = f"{record['tokens_per_second']:>10,.0f} tokens/s   {record['seconds']:.3g} s [{low:.3g}, {high:.3g}]"
    flops = f"{record['flops_per_second'] / 1e12:.3g} TFLOP/s"
    rates += f"   useful MFU {record['mfu']:.1%}" if "mfu" in record else f"   {flops}"
    return start + rates + (f"   {record['peak_mb']:,.0f} MB" if "peak_mb" in record else "")


def write_gpu_record(config: BenchConfig, repeats: int, out: Path | None, log: Callable[[str], None]) -> None:
    """Run the GPU benchmark and write the record after each job.

    Args:
        config: size, device and precision.
        repeats: number of timed repeats per setting.
        out: file of the record; default: eval/published/bench_gpu_<gpu>.json in a checkout on a GPU, else the same
            name in checkpoints/bench.
        log: callback for a line of progress.
    """
    hardware = bench_facts(config)["hardware"]
    size, path = config.size, out or record_path(config.device, hardware)
    path.parent.mkdir(parents=True, exist_ok=True)
    log(f"ELF, width {size.width}, {size.rows} rows of {size.length}, on {hardware}")
    run_gpu_benchmark(config, repeats, log=log, save=lambda record: atomic_write_json(path, record))
    log(f"Written: {path}")


def record_path(device: str, gpu_name: str) -> Path:
    """Path of a GPU's record."""
    published = Path("eval/published")
    folder = published if device == "cuda" and published.is_dir() else Path("checkpoints/bench")
    return folder / f"bench_gpu_{re.sub(r'[^A-Za-z0-9]+', '_', gpu_name).strip('_')}.json"


def main(args: list[str] | None = None) -> None:
    """Run the benchmark as a script, without the packages that the command line needs."""
    parser = argparse.ArgumentParser(prog="python -m textflow.eval.bench.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--repeats", type=int, default=5, help="number of timed repeats per setting")
    parser.add_argument("--rows", type=int, default=GPU_SIZE.rows, help="number of rows in the batch")
    parser.add_argument("--length", type=int, default=GPU_SIZE.length, help="tokens per row")
    parser.add_argument("--out", type=Path, help="file of the record")
    options = parser.parse_args(args)
    size = replace(GPU_SIZE, rows=options.rows, length=options.length)
    write_gpu_record(BenchConfig(size, options.device), options.repeats, options.out, partial(print, flush=True))


if __name__ == "__main__":
    main()
