"""Peak memory of one benchmark run in its own process, and heap settings that retain freed memory."""

import ctypes
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from .benchmark import make_benchmark
from .sizes import BenchConfig, config_from_dict

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def measure_peak_memory(benchmark: str, variant: str, config: BenchConfig) -> int:
    """Peak bytes beyond weights and batch during one run in a fresh process."""
    job = json.dumps({"benchmark": benchmark, "variant": variant, "config": asdict(config)})
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # freed is given back
    child = subprocess.run([sys.executable, "-m", __name__, job], capture_output=True, encoding="utf-8", env=exact)
    if child.returncode:
        reason = child.stderr.strip()[-300:]
        raise ValueError(f"the memory of the {variant} {benchmark} could not be measured: {reason}")
    return int(child.stdout.split()[-1])


def peak_memory_here(benchmark: str, variant: str, config: BenchConfig) -> int:
    """Peak memory measured in this process."""
    work = make_benchmark(benchmark, config)
    if config.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work.run(variant)
        return torch.cuda.max_memory_allocated() - before
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the high-water mark
    work.run(variant)
    return status_bytes("VmHWM") - before


def disable_heap_trim() -> bool:
    """Keep freed memory in this process, as CUDA's allocator does, since page allocation would distort the timings;
    True if the C library supports it (glibc)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])


def status_bytes(field: str) -> int:
    """Memory field of this process in bytes (Linux)."""
    line = next(
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith(field)
    )
    return int(line.split()[1]) * 1024


def main(job_json: str) -> None:
    """Print the peak for the parent process."""
    torch.set_num_threads(1)
    job = json.loads(job_json)
    sys.stdout.write(str(peak_memory_here(job["benchmark"], job["variant"], config_from_dict(job["config"]))))


if __name__ == "__main__":
    main(sys.argv[1])
