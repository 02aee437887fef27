"""textflow reproduce fig2|...|fig9|escapes|tradeoff|samplers|noise_to_text|stories|all|systems|results"""

import importlib
import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal, get_args

from .decoders import DECODER_FIGURES, claim_decoders, measure_decoders
from .figure_inputs import drawable, exact_scorer, load_figure_input, load_scorer
from .options import require_positive
from .ranking import ranking_config, run_ranking
from .results import results
from .systems import systems

if TYPE_CHECKING:
    from rich.console import Console

    from textflow.eval.figures.source import FigureInput

OracleFigure = Literal["fig2", "fig3", "fig5", "fig6", "fig7", "fig8", "fig9", "tradeoff", "escapes"]
FigureName = Literal[OracleFigure, "samplers", "noise_to_text", "stories"]
FIGURES = get_args(FigureName)
RANKING_KEYS = ("n", "tasks_per_kind", "verdict_tasks_per_kind", "nfe_values", "bootstrap_samples")
PAPER = "arXiv 2606.30705 (abstract and captions; its constructions are rebuilt)"


def reproduce(
    figure: Literal[FigureName, "all", "systems", "results"],
    runs: list[Path] = [],  # noqa: B006  jsonargparse appends to a copy
    run: Path | None = None,
    out: Path | None = None,
    n: int | None = None,
    steps: str = "1,2,4,8,32",
    seed: int = 0,
    tasks_per_kind: int = 1,
    verdict_tasks_per_kind: int = 5,
    nfe: str = "2,3,4,6,8,16",
    bootstrap_samples: int = 40,
    jobs: int = 2,
    quick: bool = False,
    device: str = "auto",
    check: bool = False,
) -> int | None:
    """Redraw a figure of the paper on oracle tasks with a known data distribution, or rank samplers and escapes.

    Each figure writes OUT/NAME.png, .svg and .json with all numbers and the published values.

    Args:
        figure: figure or table: fig2 (DABI), fig3 (flips), fig5 (separated modes), fig6 (tube law), fig7 (DABI of image
            and text decoders that textflow fetch gets, and of RUNs), fig8 (CCI, and the same decoders by DABI and CCI),
            fig9 (re-injection), tradeoff (stiffness), escapes (ranking of samplers and escapes, about ten minutes),
            samplers (a run's samplers and escapes under its scorer), noise_to_text (a text while it is sampled),
            stories (valid stories against steps), or all (with --run also the paper's claims, checked on the run);
            systems (one table of every RUN); or results (RESULTS.md and README's results table, from the records).
        runs: folders of trained runs, or hf:OWNER/NAME, for systems, fig7 and fig8; or further figures.
        run: folder of a trained generator to add to fig2, fig3, fig6, fig7, fig8 and tradeoff; required for
            noise_to_text, for stories, and for samplers, which needs a run named scorer in the same parent folder.
        out: folder for the figures and their records; default: checkpoints/reproduce, for systems that of the published
            records.
        n: number of texts per measurement (512; escapes 1024; systems the protocol's 256; decoders at most 64).
        steps: numbers of sampling steps of systems, separated by commas.
        seed: random seed for oracle tasks and sampling, >= 0; sampling grids are tuned on other tasks.
        tasks_per_kind: number of oracle tasks of each of the three kinds in the tables of escapes.
        verdict_tasks_per_kind: number of fresh oracle tasks of each kind for the verdict of escapes at NFE 4; 0 reuses
            the tasks of the tables.
        nfe: numbers of network evaluations to rank escapes at, separated by commas.
        bootstrap_samples: number of bootstrap samples for the confidence intervals of escapes; 0 omits the intervals.
        jobs: number of processes for escapes, one core each; does not change results.
        quick: run a small version in seconds: one task, few texts, NFE 2, 4 and 8.
        device: device for the run: cpu, cuda, mps or auto.
        check: with results only: print how the files differ from the records without writing; exit with 1 if they do.
    """
    if figure == "results":
        return results(check)
    figures, runs = split_figures(figure, runs)
    refuse_options(figures, runs, check)
    require_positive(seed)
    from textflow.config.shipped import find_run

    runs, run = [find_run(folder) for folder in runs], find_run(run) if run else None
    if figure == "systems":
        return systems([*runs, *([run] if run else [])], steps, n, seed, out, device)
    check_sizes(n, tasks_per_kind, verdict_tasks_per_kind, bootstrap_samples, jobs)
    sizes = (n, seed, tasks_per_kind, verdict_tasks_per_kind, nfe, bootstrap_samples, jobs, quick)
    draw_figures(figures, runs, run, sizes, out or Path("checkpoints/reproduce"), device)
    return None


def split_figures(figure: str, names: Sequence[Path]) -> tuple[list[str], list[Path]]:
    """All figures that were named, and the folders among the other names."""
    figures = [figure, *(str(name) for name in names if str(name) in FIGURES and not name.exists())]
    return figures, [folder for folder in names if str(folder) not in figures]


def refuse_options(figures: Sequence[str], runs: Sequence[Path], check: bool) -> None:
    """Raise a ValueError for options of another figure."""
    if check:
        raise ValueError(f"--check needs results, not {figures[0]}: textflow reproduce results --check")
    if len(figures) > 1 and (table := {"all", "systems"} & {*figures}):
        raise ValueError(f"{figures[1]} was named beside {min(table)}; leave one of them out")
    if runs and not {"systems", *DECODER_FIGURES} & {*figures}:
        raise ValueError(
            f"{figures[0]} takes one run, as an option: textflow reproduce {figures[0]} --run {quote(str(runs[0]))}"
        )


def draw_figures(
    figures: Sequence[str], others: Sequence[Path], run: Path | None, sizes: tuple[Any, ...], out: Path, device: str
) -> None:
    """Draw figures, or all; `others` are runs of fig7 and fig8, `sizes` are those of `ranking_config`."""
    from rich.console import Console

    console, (n, seed, *_, quick) = Console(markup=False, highlight=False), sizes
    settings = {"seed": seed, "quick": quick, "run": None if run is None else str(run)}
    num_texts = n or (64 if quick else 512)
    names = [name for name in FIGURES if drawable(name, run)] if figures[0] == "all" else list(dict.fromkeys(figures))
    uses_run = run is not None and not {*names} <= {"fig5", "fig7", "fig9", "escapes"}
    runs = [load_figure_input(run, num_texts, seed, device)] if run is not None and uses_run else []
    extra = {}
    if {*DECODER_FIGURES} & {*names}:
        folders = [*others, *([] if run is None else [run])]
        extra = {"decoders": measure_decoders(folders, num_texts, seed, out, device, console)}
    measured = {name: draw_figure(name, num_texts, run, runs, sizes, settings, out, console, extra) for name in names}
    if runs:
        print_claims(measured, runs[0].name, out, console)
    if extra:
        claim_decoders(measured, extra["decoders"], num_texts, seed, out, device, console)


def check_sizes(n: int | None, tasks: int, verdict_tasks: int, bootstrap_samples: int, jobs: int) -> None:
    """Raise a ValueError for numbers of texts, tasks, bootstrap samples or processes that are too small."""
    if (n is not None and n < 16) or min(tasks, jobs) < 1 or min(bootstrap_samples, verdict_tasks) < 0:
        others = f"--verdict-tasks-per-kind {verdict_tasks}, --bootstrap-samples {bootstrap_samples}"
        sizes = f"-n {n}, --tasks-per-kind {tasks}, --jobs {jobs}, {others}"
        raise ValueError(f"{sizes}: need n >= 16, tasks and jobs >= 1, the others >= 0")


def draw_figure(
    name: str,
    num_texts: int,
    run: Path | None,
    runs: "Sequence[FigureInput]",
    sizes: tuple[Any, ...],
    settings: dict[str, Any],
    out: Path,
    console: "Console",
    decoders: dict[str, Any],
) -> dict[str, Any]:
    """Measure and draw one figure, write its record, and return its numbers; `sizes` are those of `ranking_config`,
    `decoders` the argument of fig7 and fig8."""
    module, start = importlib.import_module(f"textflow.eval.figures.{name}"), time.perf_counter()
    if name == "escapes":
        config = ranking_config(*sizes)
        numbers, details = run_ranking(config, console), {key: getattr(config, key) for key in RANKING_KEYS}
    else:
        scorers = {"samplers": load_scorer, "stories": exact_scorer}
        extra = {"scorer": scorers[name](run)} if name in scorers else decoders if name in DECODER_FIGURES else {}
        with console.status(f"measuring {name}"):
            numbers, details = module.compute(num_texts, settings["seed"], runs, **extra), {"n": num_texts}
    record = {"figure": name, "paper": PAPER, "caption": module.CAPTION, "published": vars(module).get("PUBLISHED")}
    record |= settings | details | {"seconds": time.perf_counter() - start} | numbers
    write_record(out / f"{name}.json", record)
    module.draw(numbers, out / name)
    console.print(f"{name}: {module.CAPTION}", soft_wrap=True)
    seconds = f"{time.perf_counter() - start:.0f} s"
    console.print(f"Written: {out / name}.png, .svg and .json ({seconds})\n", soft_wrap=True)
    return numbers


def print_claims(results: dict[str, Any], run: str, out: Path, console: "Console") -> None:
    """Print and save the paper's claims with the numbers of a run."""
    from textflow.eval.figures.claims import check_claims

    if not (claims := check_claims(results, run)):
        return
    console.print(f"Claims of {PAPER} at the scale of {run}:", soft_wrap=True)
    for claim in claims:
        console.print(f"  {claim.sentence}", soft_wrap=True)
    write_record(out / "claims.json", {"run": run, "claims": [claim._asdict() for claim in claims]})


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write the numbers of a figure as strict JSON."""
    from textflow.eval.record import replace_nonfinite
    from textflow.runtime.atomic import atomic_write_text

    record = record | {"textflow": version("textflow"), "torch": version("torch")}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(replace_nonfinite(record), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
