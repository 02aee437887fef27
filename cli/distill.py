"""textflow distill RECIPE [OVERLAY ...] --teacher RUN [--key value]"""

import json
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from .fit import fit_config, quiet, tried
from .recipes import title
from .resume import leads, refuse_another_start, refuse_more_steps

SHOWN = (
    *("steps", "who", "run", "sampling", "perplexity", "entropy", "seq_rep_4", "clean", "nfe", "cci", "stiffness"),
    *("dabi_ce", "dabi_ce_at_least", "dabi_flip", "dabi_flip_at_least"),
)
HELP = """usage: textflow distill RECIPE [OVERLAY ...] --teacher RUN [--key value ...]

Teach students of fewer and fewer steps, a round each. RECIPE is laid over the teacher's own recipe, so it says only
what differs. Each round starts from the averaged weights of the round before, in its own run folder
RUN/steps-<steps of the student>; the same command goes on where it was stopped, bit for bit. At the end every student
is scored beside its teacher, where a scorer lies beside the run (textflow eval makes one). Some keys:

  --teacher checkpoints/quickstart   run of the teacher; the recipe may name it
  --rounds [[8,4],[4,8]]             student's steps and teacher's substeps of each round
  --passes [8,4,2,1]                 numbers of steps that students are judged at; default: their own
  --trainer.max_steps 200            optimizer steps of a round
  --run.folder checkpoints/mine      where the rounds go"""


def distill(words: list[str]) -> int:
    """Teach the rounds of a recipe, or go on with them.

    Args:
        words: recipe, overlays and --key value.
    """
    if not words or {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    quiet()
    from textflow.config import distillation, recipe

    show, words = "--print_config" in words, [word for word in words if word != "--print_config"]
    config = distillation.student(words)
    with tried(config):
        every = list(distillation.each(config))  # a fault of the last is found before the first
        if show:
            print(recipe.write(config))
            return 0
        return teach(config, every, title(recipe.find(words[0])))


def teach(config: Any, every: list[tuple[int, int, Any]], name: str) -> int:
    """One round after another, or the first, if it is only tried; returns 0, or 130 where Ctrl-C stopped one.

    Args:
        config: the recipe of all.
        every: student's steps, teacher's substeps and recipe of each.
        name: of the recipe.
    """
    from textflow import run_folder
    from textflow.runtime.atomic import replace_json

    whole, teacher, before = Path(config.run.folder), Path(config.teacher), Path(config.teacher)
    refuse_more_steps([(Path(own.run.folder), own.trainer.max_steps) for _, _, own in every])
    load = lru_cache(maxsize=2)(run_folder.load)  # the teacher once, and the round before
    made: list[dict[str, Any]] = []
    for steps, substeps, own in every:
        renewed = before if own.model.init_args.objective.init_args.get("renew") else teacher
        run, origin = Path(own.run.folder), {"teacher": renewed, "start": before}
        if code := fit_config(own, f"{name}: {steps} steps", partial(enrol, load, run, origin)):
            return code
        if config.trainer.fast_dev_run:
            return 0
        before = run
        made.append({"steps": steps, "substeps": substeps, "run": run.name})
    if leads():
        replace_json(whole / "rounds.json", {"teacher": str(teacher), "rounds": made, "passes": config.passes})
        print(f"Students: {', '.join(str(whole / each['run']) for each in made)}")
        compare(whole)
    return 0


def enrol(load: Callable[[Path], Any], run: Path, origin: dict[str, Path], student: Any) -> None:
    """Give a student its teacher, and the weights that it starts with.

    Args:
        load: the model of a run.
        run: of the student.
        origin: runs of the teacher and of what the student starts with.
        student: fresh.
    """
    refuse_another_start(run, origin)
    student.take_teacher(load(origin["teacher"]), load(origin["start"]))


def compare(folder: Path, n: int = 128) -> None:
    """Print each student beside its teacher, where a scorer lies beside the run; keeps RUN/rounds_scored.json, row by
    row, and goes on with it. A scorer knows no sources: of pairs, print what holds their answers against the targets.

    Args:
        folder: of the rounds.
        n: samples a row.
    """
    from textflow.eval.conditional import of_pairs

    said = json.loads((folder / "rounds.json").read_text())
    if of_pairs(Path(said["teacher"])):
        print("Answers are held against the test's targets, a run at a time, the teacher's too:")
        for made in said["rounds"]:
            print(f"  textflow eval {folder / made['run']} --steps {made['steps']}")
        return
    places = [folder.parent / "scorer", Path(said["teacher"]).parent / "scorer"]
    if not (found := [place for place in places if place.is_dir()]):
        print(f"To see them beside their teacher: textflow eval {said['teacher']} fits a scorer; then this again")
        return
    from rich.console import Console

    from textflow.eval.distillation.measure import Trial, costs, rounds
    from textflow.eval.protocol import held_out, recipe
    from textflow.models.causal_lm import scorer
    from textflow.runtime.atomic import replace_json

    console, records = Console(width=max(150, Console().width), markup=False), []
    judge = scorer(str(found[0]))
    batch, place = held_out(recipe(folder / said["rounds"][0]["run"])["data"], 64), folder / "rounds_scored.json"
    trial = Trial(judge, batch, n, kept=json.loads(place.read_text()) if place.is_file() else [])
    with console.status("scoring") as status:
        cost = costs(folder, batch)
        for record in rounds(folder, trial):
            records.append(record)
            replace_json(place, records + trial.kept[len(records) :])
            status.update(f"scored {len(records)} rows")
    replace_json(place, records)
    tables(console, records, cost, f"n = {n}, seed 0, scorer {found[0]} {judge.hash} {judge.dtype}")


def tables(console: Any, records: list[dict[str, Any]], cost: list[dict[str, Any]], protocol: str) -> None:
    """Print what was measured: the rounds, students against their teacher, gaps between ways, errors of targets."""
    from textflow.eval.distillation.tables import PUBLISHED, beside, gaps

    from .diagnose import table

    rows = [{name: record[name] for name in SHOWN if name in record} for record in records]
    console.print(table(f"Rounds: {protocol}; DABI is the net's, CCI and stiffness are the sampling's [ours]", rows))
    console.print(table("Students against their teacher at the same steps, sampled alike", beside(records)))
    console.print(table(f"How much lower than the ODE's perplexity; published {PUBLISHED}", gaps(records)))
    if cost:
        console.print(table("Targets that are not the teacher's walk by Euler: how far they lie from it", cost))
