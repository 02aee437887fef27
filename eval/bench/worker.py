"""One job of the GPU benchmark in its own process, so that a failure or timeout does not affect the others."""

import json
import sys
from typing import Any

import torch

from .benchmark import make_benchmark
from .flops import peak_flops
from .scaling import measure_scaling
from .sizes import BenchConfig, config_from_dict
from .subprocess import one_line
from .timing import bench_facts, measure_benchmark, summarize_times, time_alternating


def run_job(benchmark: str, variant: str | None, config: BenchConfig, repeats: int) -> dict[str, Any]:
    """Record of a job, or the reason for its failure; errors of compilers and drivers are recorded."""
    try:
        if variant is not None:
            return measure_variant(benchmark, variant, config, repeats)
        if benchmark == "scaling":
            return measure_scaling("step", config.device, repeats)
        return measure_benchmark(benchmark, config, repeats, peak_memory=False)
    except ValueError as error:  # a refusal, such as no GPU, or no package
        return {"skipped": one_line(str(error))}
    except Exception as error:
        return {"skipped": one_line(f"{type(error).__name__}: {error}")}


def measure_variant(benchmark: str, variant: str, config: BenchConfig, repeats: int) -> dict[str, Any]:
    """Seconds, tokens per second, memory and useful MFU of one variant, after two warm-up runs."""
    work = make_benchmark(benchmark, config)
    for _ in range(2):
        work.run(variant)
    work.variants = (variant,)
    if config.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = summarize_times(time_alternating(work, repeats, config.device), variant)
    seconds = times["seconds"][variant]
    record = {"seconds": seconds, "spread": times["spread"][variant], "tokens_per_second": config.size.tokens / seconds}
    if config.device == "cuda":
        record["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    useful = work.flops("optimized")
    assert useful is not None
    record["flops_per_second"] = useful / seconds
    peak = peak_flops(bench_facts(config)["hardware"])
    return record | ({"mfu": record["flops_per_second"] / peak} if peak else {})


def main(job_json: str) -> None:
    """Print the record as JSON on the last line, for the parent process."""
    job = json.loads(job_json)
    config = config_from_dict(job["config"])
    torch.set_num_threads(job["threads"])
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    result = run_job(job["benchmark"], job["variant"], config, job["repeats"])
    sys.stdout.write("\n" + json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
