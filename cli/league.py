"""textflow league"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .duration import format_duration
from .eval import parse_steps, progress_bar
from .fit import silence_warnings
from .league_fits import train
from .options import require_positive
from .systems import describe_hardware

if TYPE_CHECKING:
    from textflow.eval.league.plan import Entrant, LeagueConfig

FIT_SECONDS = 10.0  # start, validation and samples of a fit; these three were measured for small systems on a CPU
DIAGNOSTIC_SECONDS = 7.0  # of one sampler
CALL_SECONDS = 0.002  # of one text in one network evaluation


def league(
    minutes: float = 10.0,
    systems: str | None = None,
    data: str = "stories",
    n: int = 256,
    steps: str = "1,2,4,8,32",
    seed: int = 0,
    out: Path = Path("checkpoints/league"),
    dry_run: bool = False,
) -> int:
    """Train systems on one text in equal processor time, and compare them by a truth that is known exactly.

    Each system is searched for its learning rate in short fits and trained once. Its samples are scored by the grammar
    of the stories. The command prints tables and writes OUT/SYSTEM/record.json, OUT/league.md, .html and .yaml.
    Running the same command again resumes it; more systems, texts and steps may be asked for, and no work is repeated.

    Args:
        minutes: processor minutes of one thread for each system's final fit, with its codec.
        systems: systems, or paths of recipes, separated by commas; default: quickstart and twelve of recipes/small.
        data: text: an overlay of the source Stories, by name below recipes/data or by path.
        n: number of texts of each sampler at each number of steps.
        steps: numbers of sampling steps, separated by commas.
        seed: random seed for training and sampling, >= 0.
        out: folder of the fits and the results.
        dry_run: print what would be done, and how long it takes, without doing it.
    """
    counts = parse_steps(steps)
    require_positive(n=n)
    silence_warnings()
    from textflow.eval.league.plan import LeagueConfig, find_systems, read_entrant

    config = LeagueConfig(data, minutes, seed)
    entrants = [read_entrant(name, recipe, config, out) for name, recipe in find_systems(systems).items()]
    print_plan(entrants, config, out, counts, n)
    if dry_run:
        return 0
    config.bind(out)
    with one_thread():
        return run_league(entrants, config, counts, n, out, league_command(config, systems, n, steps))


def league_command(config: "LeagueConfig", systems: str | None, n: int, steps: str) -> str:
    """The command of a league, for its record."""
    chosen = [] if systems is None else ["--systems", systems]
    words = ["--minutes", f"{config.minutes:g}", *chosen, "--data", config.data, "-n", str(n), "--steps", steps]
    return shlex.join(["textflow", "league", *words, "--seed", str(config.seed)])


def print_plan(entrants: "Sequence[Entrant]", config: "LeagueConfig", out: Path, counts: Sequence[int], n: int) -> None:
    """Print the systems with their searches, what is done already, and the time that the rest takes."""
    from textflow.eval.league.plan import CODEC_SHARE, SEARCH

    print(
        f"League in {out}: {config.overlay}, {config.minutes:g} processor minutes of one thread for each system "
        f"({CODEC_SHARE:.0%} of them for a codec that is fitted first), after {SEARCH}"
    )
    for entrant in entrants:
        rates = ", ".join(f"{rate:g}" for rate in entrant.learning_rates)
        done = "trained" if is_trained(entrant) else "to train"
        print(f"  {entrant.name:<10} {entrant.recipe}, learning rates {rates} by {entrant.criterion}: {done}")
    training = sum(training_seconds(entrant, config.minutes) for entrant in entrants if not is_trained(entrant))
    judging = sum(judging_seconds(entrant, counts, n) for entrant in entrants)
    print(
        f"About {format_duration(training + judging)} of one idle core: {format_duration(training)} to train, the rest "
        f"to score n = {n} texts of each sampler at K = {', '.join(map(str, counts))}, less what is saved",
        flush=True,
    )


def is_trained(entrant: "Entrant") -> bool:
    """True if the final fit of a system is done."""
    return (entrant.folder / "fit.json").is_file()


def training_seconds(entrant: "Entrant", minutes: float) -> float:
    """Seconds of all fits of a system, their starts and validations included."""
    from textflow.eval.league.plan import LEARNING_RATES, SEARCH_SHARE

    searched = len(LEARNING_RATES) * SEARCH_SHARE * entrant.minutes(minutes)
    num_fits = 2 + len(LEARNING_RATES) + (2 if entrant.codec_tree else 0)
    return 60 * (minutes + searched) + FIT_SECONDS * num_fits


def judging_seconds(entrant: "Entrant", counts: Sequence[int], n: int) -> float:
    """Seconds to sample and diagnose a small system; flows are sampled by three methods."""
    methods = 3 if entrant.tree["model"]["class_path"].endswith("Generator") else 1
    return DIAGNOSTIC_SECONDS * methods + CALL_SECONDS * n * methods * sum(counts)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread for tensors."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_league(
    entrants: "Sequence[Entrant]", config: "LeagueConfig", counts: Sequence[int], n: int, out: Path, command: str
) -> int:
    """Train and score all systems, and print the tables; a system that fails is left out, and makes the exit code 2.

    OUT/league.md, .html and .yaml are written after each system.
    """
    from textflow.eval.league.markdown import render_markdown
    from textflow.eval.league.page import render_page
    from textflow.eval.league.record import make_record
    from textflow.eval.systems_table import write_record
    from textflow.runtime.atomic import atomic_write_text

    records: list[dict[str, Any]] = []
    for entrant in entrants:
        try:
            records.append(run_entrant(entrant, config, counts, n))
        except (ValueError, OSError) as error:
            print(f"{entrant.name} is left out: {error}", file=sys.stderr, flush=True)
            continue
        atomic_write_text(out / "league.md", render_markdown(records, counts))
        atomic_write_text(out / "league.html", render_page(records, counts))
        write_record(make_record(records, counts, command, describe_hardware("cpu")), out / "league.yaml", "league")
    if records:
        print(render_markdown(records, counts))
        print(f"Written: {out / 'league'}.md, .html and .yaml, and a record.json below each system")
    return 0 if len(records) == len(entrants) else 2


def run_entrant(entrant: "Entrant", config: "LeagueConfig", counts: Sequence[int], n: int) -> dict[str, Any]:
    """Train and score one system, or read what was done before; return its record."""
    from textflow.eval.league.scoring import score_system

    facts = train(entrant, config)
    with progress_bar() as tick:
        return score_system(entrant, facts, counts, n, config.seed, tick)
