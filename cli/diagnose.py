"""textflow diagnose RUN | --world chain"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from .options import at_least_one, best_device

TOLD = {
    "dabi": "DABI [ours]: the denoiser's residual against random directions of its length, all positions at once",
    "tube": "tube law: flips predicted from the boundary's density, and observed; blurs in standard deviations",
    "rollin": "roll-in: flips of one step from noised real text; cumulative: of the sampler's own states",
    "cci": "CCI [ours]: pairs of tokens of which one was chosen in sight of the other; changed: with the mean fed",
    "margins": "margins [ours]: the readout's lead in nats at each call; settled: tokens that change no more",
    "stiffness": "stiffness [ours]: |dz'/dz| of each step, its peak, and of the whole map; from below",
    "blunt": "blunt decoder [ours]: temperature and shrinking move the loss and no flip",
    "rowspace": "row space [ours]: share of the residual that the codec's readout sees",
}


def diagnose(
    run: Path | None = None,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    world: Literal["chain", "text", "topic"] | None = None,
    only: str | None = None,
    n: int = 256,
    batch_size: int = 64,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Measure where and why a generator fails: on held-out text of a run, or on an oracle world where all is known.

    Prints a table a measure; writes diagnose.json and figures (PNG and SVG).

    Args:
        run: folder of a fitted generator.
        overlays: recipes that change how it samples; they may follow RUN.
        world: an oracle world in its place.
        only: measures, with commas between: dabi, tube, rollin, cci, margins, stiffness, blunt, rowspace; default: all.
        n: rows of text.
        batch_size: rows at a time.
        seed: of the noise (and of the world).
        out: folder of what is written; default: RUN/diagnostics, or checkpoints/worlds/WORLD.
        device: cpu, cuda, mps or auto.
    """
    names = chosen(only)
    at_least_one(n=n, batch_size=batch_size)
    if run is not None and world is not None:
        raise ValueError(f"diagnose looks at either a run or a world, not both: leave {run} or --world {world} out")
    if run is None and world is None:
        raise ValueError("diagnose needs a run or a world: textflow diagnose RUN, or textflow diagnose --world chain")
    from rich.console import Console

    from textflow.eval.diagnose import MEASURES, Case

    folder = out or (run / "diagnostics" if run else Path("checkpoints/worlds") / str(world))
    model, batches, facts = of_run(run, overlays, n, batch_size, device) if run else of_world(str(world), n, seed)
    console = Console(width=max(150, Console().width), markup=False)
    found: dict[str, Any] = {"facts": facts | {"n": n, "seed": seed}}
    for name in names:
        with console.status(f"measuring {name}"):
            found[name] = MEASURES[name](Case(model, batches, seed))
        console.print(table(TOLD[name], found[name]))
        write(folder, found)
    drawn = draw(folder, found)
    if run and curves(run / "metrics.csv", folder / "curves"):
        drawn.append("curves")
    print(f"Written: {folder}/diagnose.json" + (f" and {', '.join(drawn)} (.png, .svg)" if drawn else ""))


def chosen(only: str | None) -> list[str]:
    """The measures that a user names."""
    names = list(TOLD) if only is None else [word.strip() for word in only.split(",")]
    if unknown := [name for name in names if name not in TOLD]:
        raise ValueError(f"no measure {', '.join(map(repr, unknown))}; there are {', '.join(TOLD)}")
    return names


def curves(metrics: Path, path: Path) -> bool:
    """Draw what the callbacks logged during training, if they did."""
    from textflow.eval.figures.curves import curves

    return metrics.is_file() and curves(metrics, path)


def of_run(run: Path, overlays: Sequence[str], n: int, batch_size: int, device: str) -> tuple[Any, list[Any], Any]:
    """A trained model, held-out text in batches, and what a record says of the run."""
    from textflow import run_folder
    from textflow.eval.protocol import facts, held_out, recipe
    from textflow.models.generator import Generator

    said, model = facts(run, overlays), run_folder.load(run, best_device(device), overlays)
    if not isinstance(model, Generator):
        raise ValueError(f"{run} holds a {type(model).__name__}; diagnose looks at the run of a Generator")
    whole = held_out(recipe(run)["data"], n)
    starts = range(0, len(whole.ids), batch_size)
    batches = [whole.each(lambda part, i=i: part[i : i + batch_size].to(model.device)) for i in starts]
    return model, batches, said


def of_world(name: str, n: int, seed: int) -> tuple[Any, list[Any], Any]:
    """An oracle world as a generator, and texts of it."""
    from textflow.noise import Noise, sample_seeds
    from textflow.oracle import WORLDS
    from textflow.schedules import LogitNormal
    from textflow.types import Batch

    world = WORLDS[name](seed)
    ids = world.draw(Noise(sample_seeds(seed, 0, n)))
    grid = LogitNormal(-0.2, 0.4)  # where this world's tokens are decided
    return world.generator(grid=grid), [Batch(ids, ids >= 0)], {"world": name, "grid": "LogitNormal(-0.2, 0.4)"}


def table(title: str, rows: list[dict[str, Any]]) -> Any:
    """Rows as a table; a number with its interval is one cell, and lists are shown as they go."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in names if name.rsplit("_", 1)[-1] not in ("low", "high")]
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    for name in names:
        made.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for row in rows:
        made.add_row(*(cell(row, name) for name in names))
    return made


def cell(row: dict[str, Any], name: str) -> str:
    """A value, with its 95 % interval where there is one; a lower bound where only that is known."""
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if low is None:
        return shown(value)
    return f">= {shown(low)}" if value is None else f"{shown(value)} [{shown(low)}, {shown(high)}]"


def shown(value: Any) -> str:
    """A number, a word or a list of them."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return " ".join(map(shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write(folder: Path, found: dict[str, Any]) -> None:
    """Keep what is measured so far."""
    from textflow.eval.measure import finite
    from textflow.runtime.atomic import replace_text

    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "diagnose.json", json.dumps(finite(found), indent=1, allow_nan=False) + "\n")


def draw(folder: Path, found: dict[str, Any]) -> list[str]:
    """Figures of what is there."""
    from textflow.eval.figures.diagnose import FIGURES

    return [name for name, figure in FIGURES.items() if name in found and figure(found[name], folder / name)]
