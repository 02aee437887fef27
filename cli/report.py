"""textflow report RUN [RUN ...]"""

import sys
from pathlib import Path

from .options import resolve_device

REPORT_INPUTS = (
    *("recipe.yaml", "rounds.json", "metrics.csv"),
    *("eval/*.json", "diagnostics/diagnose.json", "trajectories/*.json"),
)


def report(
    runs: list[Path] = [],  # noqa: B006  jsonargparse appends to a copy
    out: Path = Path("report.html"),
    samples: int = 3,
    steps: int = 16,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Write an HTML page that compares runs: results with their protocols, curves, and trajectories of samples.

    The page is one self-contained file. For missing results it shows the command that creates them; missing
    trajectories are sampled and saved in RUN/trajectories.

    Args:
        runs: folders of runs, names hf:OWNER/NAME of runs on the Hub, or folders of distillation rounds.
        out: HTML file to write.
        samples: number of trajectories per run; 0 samples none.
        steps: number of sampling steps of the trajectories.
        seed: random seed for sampling the trajectories.
        device: device to run on: cpu, cuda, mps or auto.
    """
    if samples < 0 or steps < 1 or seed < 0:
        raise ValueError(f"--samples {samples}, --steps {steps}, --seed {seed}: need samples and seed >= 0, steps >= 1")
    if not runs:
        raise ValueError("no run: give its folder, such as textflow report checkpoints/quickstart")
    from textflow.config.shipped import find_run

    runs = [find_run(run) for run in runs]
    for run in runs:
        if not run.is_dir():
            raise ValueError(f"no folder {run}; give the folder of a run, such as checkpoints/quickstart")
    if not any(list(run.glob(name)) for run in runs for name in REPORT_INPUTS):
        raise ValueError(
            f"{', '.join(map(str, runs))}: found no recipe.yaml, no rounds.json and no results, so nothing to report; "
            "give the folder of a run, such as checkpoints/quickstart"
        )
    check_overwrite(out)
    reasons = {str(run): why for run in runs if (why := record_trajectories(run, samples, steps, seed, device))}
    from textflow.eval.report.page import render_page
    from textflow.runtime.atomic import atomic_write_text

    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out.resolve(), render_page(runs, reasons))
    print(f"Written: {out} ({out.stat().st_size / 1e6:.1f} MB); it opens in any browser")


def check_overwrite(out: Path) -> None:
    """Raise a ValueError if writing would replace anything but an empty file or a page of textflow report."""
    from textflow.eval.report.page import read_asset

    prefix = read_asset("page.html").split("{{")[0].encode()
    if not out.exists():
        return
    if not out.is_file():
        raise ValueError(f"{out} is not a regular file; choose another with --out")
    with out.open("rb") as file:
        if (start := file.read(len(prefix))) and start != prefix:
            raise ValueError(f"{out} exists and is not a page of textflow report; choose another file with --out")


def record_trajectories(run: Path, num_samples: int, steps: int, seed: int, device: str) -> str | None:
    """Record the missing trajectories of a run; return the reason if that is impossible."""
    from textflow.eval.report.folder import load_recipe
    from textflow.eval.report.trajectory_files import is_complete

    recipe = load_recipe(run / "recipe.yaml", [])
    if not recipe or "Autoencoder" in str(recipe.get("model")) or not (run / "model.safetensors").is_file():
        return None
    if is_complete(run, num_samples, steps, seed):
        return None
    print(f"{run}: recording {num_samples} trajectories", file=sys.stderr)
    from textflow.eval.trajectory.record import record_run

    try:
        for _ in record_run(run, num_samples, steps, seed, resolve_device(device)):
            pass
    except (ValueError, OSError, RuntimeError) as error:  # the page still shows the other runs
        reason = " ".join(str(error).split())
        print(f"{run}: no trajectories: {reason}", file=sys.stderr)
        return f"no trajectories: {reason}"
    return None
