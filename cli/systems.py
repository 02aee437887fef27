"""The table of trained systems (`textflow reproduce systems`)."""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .eval import parse_steps, progress_bar
from .options import require_positive, resolve_device
from .results import results
from .scorers import resolve_scorer


def systems(runs: Sequence[Path], steps: str, n: int | None, seed: int, out: Path | None, device: str) -> int:
    """Measure every run, write OUT/systems.yaml, print its table, and rewrite RESULTS.md if OUT is its folder; return
    the exit code.

    Args:
        runs: folders of trained runs.
        steps: numbers of sampling steps, separated by commas.
        n: number of texts of each run; default: the protocol's.
        seed: random seed, >= 0.
        out: folder of the record; default: that of the published records.
        device: device to run on: cpu, cuda, mps or auto.
    """
    from textflow.eval.results import PUBLISHED, load_record
    from textflow.eval.systems import check_runs, measure_system
    from textflow.eval.systems_table import make_record, write_record

    if not runs:
        raise ValueError("systems needs trained runs: textflow reproduce systems checkpoints/quickstart ...")
    counts = parse_steps(steps)
    require_positive(n=n)
    check_runs(runs)
    scoring = resolve_scorer(runs[0], "local", None, None, None, False, str(resolve_device(device)))
    measured, num_texts = [], n or scoring.protocol.n
    for run in runs:
        start = time.perf_counter()
        with progress_bar() as tick:
            measured.append(measure_system(run, scoring, counts, num_texts, seed, tick))
        print(f"{run.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        for name, reason in measured[-1].refusals.items():
            print(f"{run.name}: no {name}: {reason}", file=sys.stderr)
    command = f"textflow reproduce systems {shlex.join(map(str, runs))} --steps {steps} -n {num_texts}"
    published = PUBLISHED / "results"
    path = (out or published) / "systems.yaml"
    write_record(make_record(measured, counts, command, seed, describe_hardware(scoring.device)), path)
    print("\n\n".join(table.markdown() for table in load_record(path).tables.values()))
    print(f"Written: {path}")
    return results() if path.parent.resolve() == published.resolve() else 0


def describe_hardware(device: str) -> str:
    """The device with its name, or a CPU's number of threads."""
    import torch

    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"
