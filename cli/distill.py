"""textflow distill RECIPE [OVERLAY ...] --teacher RUN [--key value]"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from textflow.cli.fit import fit_config, quiet
from textflow.cli.recipes import title

HELP = """usage: textflow distill RECIPE [OVERLAY ...] --teacher RUN [--key value ...]

Teach students of fewer and fewer steps, a round each. RECIPE is laid over the teacher's own recipe, so it says only
what differs. Each round starts from the averaged weights of the round before, in its own run folder
RUN/steps-<steps of the student>; the same command goes on where it was stopped, bit for bit. Some keys:

  --teacher checkpoints/quickstart   run of the teacher; the recipe may name it
  --rounds [[8,4],[4,8]]             student's steps and teacher's substeps of each round
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
    from textflow import recipe, rounds

    show, words = "--print_config" in words, [word for word in words if word != "--print_config"]
    config = rounds.student(words)
    if show:
        print(recipe.write(config))
        return 0
    name, whole = title(recipe.find(words[0])), Path(config.run.folder)
    teacher, before = Path(config.teacher), Path(config.teacher)
    for steps, substeps in config.rounds:
        own = rounds.round_of(config, steps, substeps)
        renewed = before if own.model.init_args.objective.init_args.get("renew") else teacher
        if code := fit_config(own, f"{name}: {steps} steps", partial(enrol, renewed, before)):
            return code
        before = Path(own.run.folder)
    if not config.trainer.fast_dev_run:
        write_rounds(whole, config.rounds, teacher)
        print(f"Students: {whole}/steps-*")
        compare(whole)
    return 0


def compare(folder: Path, n: int = 128) -> None:
    """Print each student beside its teacher, where a scorer lies beside the run; keeps RUN/rounds_scored.json.

    Args:
        folder: of the rounds.
        n: samples a row.
    """
    scorer_run = folder.parent / "scorer"
    if not scorer_run.is_dir():
        print(
            f"To see them beside their teacher: textflow fit recipes/scorer.yaml --run.folder {scorer_run}, then this"
        )
        return
    from rich.console import Console

    from textflow.causal import scorer
    from textflow.cli.diagnose import table
    from textflow.eval.protocol import held_out, recipe
    from textflow.eval.rounds import PUBLISHED, gaps, rounds

    console, found = Console(width=max(150, Console().width), markup=False), []
    first = next(folder.glob("steps-*"))
    judge, batch = scorer(str(scorer_run)), held_out(recipe(first)["data"], 64)
    with console.status("scoring") as status:
        for record in rounds(folder, judge, batch, n):
            found.append(record)
            status.update(f"scored {len(found)} rows")
    (folder / "rounds_scored.json").write_text(json.dumps(found, indent=1) + "\n")
    shown = ("steps", "who", "sampling", "perplexity", "entropy", "seq_rep_4", "clean", "nfe", "cci", "stiffness")
    measured = ("dabi_ce", "dabi_ce_at_least", "dabi_flip", "dabi_flip_at_least")
    rows = [{name: record[name] for name in (*shown, *measured) if name in record} for record in found]
    console.print(table(f"Rounds: n = {n}, seed 0, scorer {scorer_run} {judge.hash} {judge.dtype}", rows))
    console.print(table(f"How much lower than the ODE's perplexity; published {PUBLISHED}", gaps(found)))


def enrol(teacher: Path, before: Path, student: Any) -> None:
    """Give a student its teacher, and the weights that it starts with.

    Args:
        teacher: run of the teacher.
        before: run whose averaged weights the student starts with.
        student: fresh.
    """
    from textflow import checkpoint

    student.take_teacher(checkpoint.load(teacher), checkpoint.load(before))


def write_rounds(folder: Path, rounds: Sequence[tuple[int, int]], teacher: Path) -> None:
    """Say in the folder of the whole what its rounds are."""
    from textflow.training.state import replace

    made = [{"steps": steps, "substeps": substeps, "run": f"steps-{steps}"} for steps, substeps in rounds]

    def write(path: Path) -> None:
        path.write_text(json.dumps({"teacher": str(teacher), "rounds": made}, indent=1) + "\n")

    replace(folder / "rounds.json", write)
