"""textflow report RUN [RUN ...]"""

import sys
from pathlib import Path

from .options import best_device

SHOWN = ("recipe.yaml", "rounds.json", "metrics.csv", "eval/*.json", "diagnostics/diagnose.json", "trajectories/*.json")


def report(
    runs: list[Path] = [],  # noqa: B006  jsonargparse appends to a copy
    out: Path = Path("report.html"),
    samples: int = 3,
    steps: int = 16,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Write one page that shows runs side by side: results with their protocols, curves, and the way of each sample.

    The page is one file that loads nothing. It shows what the folders hold, and names the command that makes what they
    lack; trajectories of a few samples it makes itself, once, in RUN/trajectories.

    Args:
        runs: folders of runs, or of rounds of distillation.
        out: the page.
        samples: of each run whose way is shown; 0 makes none.
        steps: of their grid.
        seed: of their noise.
        device: cpu, cuda, mps or auto.
    """
    if samples < 0 or steps < 1 or seed < 0:
        raise ValueError(f"samples {samples}, steps {steps}, seed {seed}: need samples and seed >= 0, steps >= 1")
    if not runs:
        raise ValueError("no run: name its folder, such as textflow report checkpoints/quickstart")
    for run in runs:
        if not run.is_dir():
            raise ValueError(f"no folder {run}; name the folder of a run, such as checkpoints/quickstart")
    if not any(list(run.glob(name)) for run in runs for name in SHOWN):
        raise ValueError(
            f"{', '.join(map(str, runs))}: found no recipe.yaml, no rounds.json and no results, so nothing to report; "
            "name the folder of a run, such as checkpoints/quickstart"
        )
    ours(out)
    reasons = {str(run): why for run in runs if (why := walked(run, samples, steps, seed, device))}
    from textflow.eval.report.page import page
    from textflow.runtime.atomic import replace_text

    out.parent.mkdir(parents=True, exist_ok=True)
    replace_text(out.resolve(), page(runs, reasons))
    print(f"Written: {out} ({out.stat().st_size / 1e6:.1f} MB); it opens in any browser")


def ours(out: Path) -> None:
    """Refuses to write over what is not a page of textflow report, or an empty file."""
    from textflow.eval.report.page import read

    begins = read("page.html").split("{{")[0].encode()
    if not out.exists():
        return
    if not out.is_file():
        raise ValueError(f"{out} is not an ordinary file; name another with --out")
    with out.open("rb") as file:
        if (held := file.read(len(begins))) and held != begins:
            raise ValueError(f"{out} is there and is not a page of textflow report; name another file with --out")


def walked(run: Path, samples: int, steps: int, seed: int, device: str) -> str | None:
    """Make the trajectories that a run lacks; why not, if it cannot have them."""
    from textflow.eval.report.folder import tree
    from textflow.eval.report.trajectory_files import complete, of_weights

    recipe = tree(run / "recipe.yaml", [])
    if complete(run, samples, steps, seed) or not recipe or of_weights(run) is None:
        return None
    if "Autoencoder" in str(recipe.get("model") or {}):
        return None
    print(f"{run}: following {samples} samples", file=sys.stderr)
    from textflow.eval.trajectory.record import records

    try:
        for _ in records(run, samples, steps, seed, best_device(device)):
            pass
    except (ValueError, OSError, RuntimeError) as error:  # a page of the other runs is worth having
        said = " ".join(str(error).split())
        print(f"{run}: no trajectories: {said}", file=sys.stderr)
        return f"no trajectories: {said}"
    return None
