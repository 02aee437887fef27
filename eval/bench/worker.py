"""One job of the GPU benchmark in its own process, so that a failure or timeout does not affect the others."""

import json
import sys
from typing import Any

import torch

from .contests import make_benchmark
from .flops import peak_flops
from .scaling import measure_scaling
from .sizes import BenchConfig, config_from_dict
from .subprocess import one_line
from .timing import bench_facts, measure_benchmark, summarize_times, time_alternating


def run_job(benchmark: str, variant: str | None, config: BenchConfig, repeats: int) -> dict[str, Any]:
    """Record of a job, or the reason for its failure; errors of compilers and drivers are recorded.

    Args:
        benchmark: benchmark name, or scaling.
        variant: variant to measure alone; None measures all variants.
        config: size, device, precision.
        repeats: number of repeats per variant.
    """
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
    contest = make_benchmark(benchmark, config)
    for _ in range(2):
        contest.run(variant)
    contest.variants = (variant,)
    if config.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    result = summarize_times(time_alternating(contest, repeats, config.device), variant)
    seconds = result["seconds"][variant]
    record = {
        "seconds": seconds,
        "spread": result["spread"][variant],
        "tokens_per_second": config.size.tokens / seconds,
    }
    if config.device == "cuda":
        record["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    useful = contest.flops("optimized")
    assert useful is not None
    record["flops_per_second"] = useful / seconds
    return record | useful_mfu(record, config)


def useful_mfu(record: dict[str, Any], config: BenchConfig) -> dict[str, Any]:
    """Useful MFU, where the card's peak is known."""
    top = peak_flops(bench_facts(config)["hardware"])
    return {} if top is None else {"mfu": record["flops_per_second"] / top}


def main(job_json: str) -> None:
    """Print the record as JSON on the last line, for the parent process."""
    given = json.loads(job_json)
    config = config_from_dict(given["config"])
    torch.set_num_threads(given["threads"])
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    result = run_job(given["benchmark"], given["variant"], config, given["repeats"])
    sys.stdout.write("\n" + json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
