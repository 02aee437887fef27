"""Peak memory of one run of a contest, in a process of its own; and a heap that keeps what is freed."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from .contests import named
from .sizes import Setting, from_words, words

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def peak_memory(bench: str, form: str, setting: Setting) -> int:
    """Bytes above what weights and batch take, at the highest point of one run in a fresh process."""
    told = json.dumps({"bench": bench, "form": form, "setting": words(setting)})
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # freed is given back
    child = subprocess.run([sys.executable, "-m", __name__, told], capture_output=True, text=True, env=exact)
    if child.returncode:
        raise ValueError(f"the memory of the {form} {bench} could not be measured: {child.stderr.strip()[-300:]}")
    return int(child.stdout.split()[-1])


def own_peak(bench: str, form: str, setting: Setting) -> int:
    """`peak_memory` of this process."""
    contest = named(bench, setting)
    if setting.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        contest.run(form)
        return torch.cuda.max_memory_allocated() - before
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    contest.run(form)
    return resident("VmHWM") - before


def keep_heap() -> bool:
    """Freed memory stays in this process, as CUDA's allocator has it: new pages take time, and are no FLOPs.

    Returns:
        Whether the C library can do so (glibc).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])


def resident(field: str) -> int:
    """Bytes of a memory field of this process (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main(told: str) -> None:
    """Print the peak for a parent to read."""
    torch.set_num_threads(1)
    given = json.loads(told)
    sys.stdout.write(str(own_peak(given["bench"], given["form"], from_words(given["setting"]))))


if __name__ == "__main__":
    main(sys.argv[1])
