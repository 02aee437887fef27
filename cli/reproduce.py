"""textflow reproduce fig2|fig3|fig5|fig6|fig8|fig9|escapes|tradeoff|all|results"""

import importlib
import json
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .diagnose import of_run
from .eval import numbers

if TYPE_CHECKING:
    from textflow.eval.oracle.benchmark import Contest

FIGURES = ("fig2", "fig3", "fig5", "fig6", "fig8", "fig9", "tradeoff", "escapes", "judged")
PAPER = "arXiv 2606.30705 (abstract and captions; its constructions are rebuilt)"


def reproduce(
    what: Literal["fig2", "fig3", "fig5", "fig6", "fig8", "fig9", "tradeoff", "escapes", "judged", "all", "results"],
    run: Path | None = None,
    out: Path = Path("checkpoints/reproduce"),
    n: int | None = None,
    seed: int = 0,
    worlds: int = 1,
    proof: int = 5,
    calls: str = "2,3,4,6,8,16",
    draws: int = 40,
    jobs: int = 2,
    quick: bool = False,
    device: str = "auto",
    check: bool = False,
) -> int | None:
    """Draw a figure of the paper again from worlds whose truth is known, or rank samplers and escapes on them.

    Each writes OUT/NAME.png, .svg and .json with all numbers; published values stand beside ours.

    Args:
        what: fig2 DABI; fig3 flips; fig5 separated modes; fig6 tube law; fig8 CCI; fig9 re-injection; tradeoff
            stiffness; escapes: the ranking, in some ten minutes; judged: escapes of a run under its scorer; or all,
            which ends with the paper's claims beside a run's numbers; results: write eval/published/RESULTS.md, and the
            table between README's markers, from the committed records.
        run: folder of a fitted generator, drawn beside the worlds in fig2, fig3, fig6, fig8 and tradeoff; for judged a
            run `scorer` stands beside it.
        out: folder of what is written.
        n: texts of a measure; default: 512, escapes 1024.
        seed: of worlds and samples, >= 0; grids are tuned on other worlds.
        worlds: of each of the three kinds in the tables of escapes.
        proof: worlds of each kind behind its verdict at 4 calls; 0: those of the tables.
        calls: numbers of network calls in escapes.
        draws: resamplings behind the intervals of escapes; 0 for none.
        jobs: processes of escapes, a core each; they change no number.
        quick: little of everything, in seconds: one world, few texts, 2, 4 and 8 calls.
        device: of the run: cpu, cuda, mps or auto.
        check: with results: print how the files differ from the records and exit with 1 if they do; write nothing.
    """
    if what == "results":
        from textflow.cli.results import results

        return results(check)
    if check:
        raise ValueError(f"--check needs results, not {what}: textflow reproduce results --check")
    if (n is not None and n < 16) or min(worlds, jobs) < 1 or min(draws, proof) < 0:
        sizes = f"n {n}, worlds {worlds}, jobs {jobs}, proof {proof}, draws {draws}"
        raise ValueError(f"{sizes}: need n >= 16, worlds and jobs >= 1, the others >= 0")
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    settings = {"seed": seed, "quick": quick, "run": None if run is None else str(run)}
    texts = n or (64 if quick else 512)
    beside = [] if run is None or what in ("fig5", "fig9", "escapes") else [source(run, texts, seed, device)]
    made: dict[str, Any] = {}
    for name in FIGURES if what == "all" else (what,):
        if name == "judged" and run is None and what == "all":
            continue
        module, start = importlib.import_module(f"textflow.eval.figures.{name}"), time.perf_counter()
        if name == "escapes":
            asked = contest(n, seed, worlds, proof, calls, draws, jobs, quick)
            found = ranked(asked, console)
            said: dict[str, Any] = {part: getattr(asked, part) for part in ("n", "worlds", "proof", "calls", "draws")}
        else:
            more = {"scorer": judge(run)} if name == "judged" else {}
            with console.status(f"measuring {name}"):
                found, said = module.numbers(texts, seed, beside, **more), {"n": texts}
        record = {"figure": name, "paper": PAPER, "caption": module.CAPTION, "published": vars(module).get("PUBLISHED")}
        write(out / f"{name}.json", record | settings | said | {"seconds": time.perf_counter() - start} | found)
        made[name] = found
        module.draw(found, out / name)
        console.print(f"{name}: {module.CAPTION}", soft_wrap=True)
        took = f"{time.perf_counter() - start:.0f} s"
        console.print(f"Written: {out / name}.png, .svg and .json ({took})\n", soft_wrap=True)
    if beside:
        tell(made, beside[0].name, out, console)
    return None


def judge(run: Path | None) -> Any:
    """The scorer beside a run."""
    if run is None:
        raise ValueError("judged scores samples of a trained run: name one with --run, and a run `scorer` beside it")
    place = run.parent / "scorer"
    if not (place / "model.safetensors").is_file():
        raise ValueError(f"no scorer at {place}: make one with textflow fit recipes/scorer.yaml --run.folder {place}")
    from textflow.models.causal_lm import scorer

    return scorer(str(place))


def tell(made: dict[str, Any], run: str, out: Path, console: Any) -> None:
    """Print the paper's claims beside the run's numbers, and keep them.

    Args:
        made: numbers by figure.
        run: as the figures name it.
        out: folder of what is written.
        console: that is printed to.
    """
    from textflow.eval.figures.claims import claims

    if not (found := claims(made, run)):
        return
    console.print(f"Claims of {PAPER} at the scale of {run}:", soft_wrap=True)
    for claim in found:
        word = "holds" if claim.holds else "does NOT hold"
        console.print(f"  {word}: {claim.words}: {claim.measured}", soft_wrap=True)
    write(out / "claims.json", {"run": run, "claims": [claim._asdict() for claim in found]})


def source(run: Path, n: int, seed: int, device: str) -> Any:
    """A run and its held-out text."""
    from textflow.eval.figures.source import ROWS, Source

    model, batches, _ = of_run(run, [], n, ROWS, device)
    return Source(f"run {run.name}", model, batches, seed)


def contest(
    n: int | None, seed: int, worlds: int, proof: int, calls: str, draws: int, jobs: int, quick: bool
) -> "Contest":
    """What escapes ranks, by the words of `reproduce`."""
    from textflow.eval.oracle.benchmark import Contest

    if quick:
        return Contest(["chain"], worlds, 0, [2, 4, 8], n or 128, seed, draws, spoilt=False)
    return Contest(worlds=worlds, proof=proof, calls=numbers(calls), n=n or 1024, seed=seed, draws=draws, jobs=jobs)


def ranked(asked: "Contest", console: Any) -> dict[str, Any]:
    """The ranking with a bar of its progress, its tables and its verdicts.

    Args:
        asked: what is ranked.
        console: that is printed to.
    """
    from itertools import chain

    from rich.progress import track

    from textflow.eval.figures.escapes import PARTS, table, told
    from textflow.eval.oracle.benchmark import ranking
    from textflow.eval.oracle.methods import JUDGED, MODE, SPOILT
    from textflow.eval.oracle.verdict import means, verdict

    cells, judged = asked.tabled(), asked.judged()
    known = set(cells)
    more = [cell for cell in judged if cell not in known]  # what is in the tables is measured already
    n, seed, jobs = asked.n, asked.seed, asked.jobs
    moving: Iterable[Any] = chain(ranking(cells, n, seed, asked.draws, jobs), ranking(more, n, seed, 0, jobs))
    every = [*cells, *more]
    records = dict(zip(every, track(moving, "ranking", len(every), console=console, transient=True), strict=True))
    found = {"means": means([records[cell] for cell in cells]), "records": [records[cell] for cell in cells]}
    wide = type(console)(file=console.file, width=max(150, console.width), markup=False, highlight=False)
    for how in SPOILT if asked.spoilt else ():
        wide.print(table(found["means"], "xkl3", how))
    for part in reversed(PARTS):
        wide.print(table(found["means"], part))
    if 4 not in asked.calls:
        return found
    proof = [records[cell] | {"spread": {}} for cell in judged]  # their intervals are over worlds
    behind = {"means": means(proof), "records": proof} if proof else found
    for part in ("dh1", "xkl3") if proof else ():
        wide.print(table(behind["means"], part, count=behind["means"][0]["worlds"]))
    ways = {"mode commit in its best form": MODE} | {name: (name,) for name in JUDGED}
    verdicts = {name: verdict(behind["means"], names) for name, names in ways.items()}
    for name, each in verdicts.items():
        console.print(told(name, each), soft_wrap=True)
    return found | {"verdicts": verdicts} | ({"behind": behind} if proof else {})


def write(path: Path, record: dict[str, Any]) -> None:
    """All numbers of a figure as strict JSON."""
    from textflow.eval.measure import finite
    from textflow.runtime.atomic import replace_text

    said = record | {"textflow": version("textflow"), "torch": version("torch")}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(finite(said), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
