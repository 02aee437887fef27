"""textflow distill RECIPE [OVERLAY ...] --teacher RUN [--key value]"""

import json
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from shlex import quote
from typing import Any

from .fit import fit_config, silence_warnings, use_temporary_folder
from .recipes import read_title
from .resume import check_round_lengths, check_same_start, is_global_zero

COLUMNS = (
    *("steps", "role", "run", "sampler_name", "perplexity", "entropy", "seq_rep_4", "human_repetition_share", "nfe"),
    *("cci", "stiffness", "dabi_ce", "dabi_ce_at_least", "dabi_flip", "dabi_flip_at_least"),
)
HELP = """usage: textflow distill RECIPE [OVERLAY ...] --teacher RUN [--key value ...]

Distil a teacher into students that need fewer and fewer sampling steps, one round per student. RECIPE overrides keys of
the teacher's recipe. Each round starts from the averaged weights of the round before and has its own run folder,
RUN/steps-<sampling steps of the student>, or RUN/all-steps for a flow map. Running the same command again resumes
exactly (bit for bit). At the end, if there is a scorer (textflow eval fits one), every student is compared with its
teacher. Common keys:

  --teacher checkpoints/quickstart   run folder of the teacher, unless the recipe gives it
  --rounds [[8,4],[4,8]]             rounds, each [sampling steps of the student, teacher substeps per student step]
  --eval-steps [8,4,2,1]             numbers of sampling steps to evaluate students at; default: each student's own
  --trainer.max_steps 200            number of optimizer steps in a round
  --run.folder checkpoints/mine      folder for the run folders of all rounds"""


def distill(argv: list[str]) -> int:
    """Train the distillation rounds of a recipe, or resume them."""
    if not argv or {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    silence_warnings()
    from textflow.config import distillation, recipe
    from textflow.config.shipped import find_recipe

    config = distillation.student_recipe([argument for argument in argv if argument != "--print_config"])
    with use_temporary_folder(config):
        rounds = list(distillation.round_recipes(config))  # validates every round before the first starts
        if "--print_config" in argv:
            print(recipe.dump(config))
            return 0
        return train_rounds(config, rounds, read_title(find_recipe(argv[0])))


def train_rounds(config: Any, rounds: list[tuple[int, int, Any]], title: str) -> int:
    """Train the rounds (sampling steps of the student, teacher substeps, recipe) in order, or only the first in a
    fast_dev_run; return 0, or 130 if interrupted.
    """
    from textflow import run_folder
    from textflow.runtime.atomic import atomic_write_json

    folder, teacher, previous = Path(config.run.folder), Path(config.teacher), Path(config.teacher)
    check_round_lengths([(Path(own.run.folder), own.trainer.max_steps) for _, _, own in rounds])
    load = lru_cache(maxsize=2)(run_folder.load)  # caches the teacher and the previous round
    finished: list[dict[str, Any]] = []
    for steps, substeps, own in rounds:
        round_teacher = previous if own.model.init_args.objective.init_args.get("update_teacher") else teacher
        run, origin = Path(own.run.folder), {"teacher": round_teacher, "start": previous}
        if code := fit_config(own, f"{title}: {steps} steps", partial(initialize_student, load, run, origin)):
            return code
        if config.trainer.fast_dev_run:
            return 0
        previous = run
        finished.append({"steps": steps, "substeps": substeps, "run": run.name})
    if is_global_zero():
        record = {"teacher": str(teacher.absolute()), "rounds": finished, "eval_steps": config.eval_steps}
        atomic_write_json(folder / "rounds.json", record)
        print(f"Students: {', '.join(str(folder / student['run']) for student in finished)}")
        compare_students(folder)
    return 0


def initialize_student(load_run: Callable[[Path], Any], run: Path, sources: dict[str, Path], student: Any) -> None:
    """Set the teacher and the initial weights of a new student to those of two runs, "teacher" and "start"."""
    check_same_start(run, sources)
    student.learn_from(load_run(sources["teacher"]), load_run(sources["start"]))


def compare_students(folder: Path, n: int = 128) -> None:
    """Compare each student with its teacher under a scorer, if there is one, on n samples per row.

    Writes RUN/rounds_scored.json row by row, and resumes an incomplete file. For runs of pairs and of stories, which
    have no scorer, and for models over tokens it prints the commands that evaluate them.
    """
    rounds = json.loads((folder / "rounds.json").read_text(encoding="utf-8"))
    teacher = Path(rounds["teacher"])
    if what := compared_by_eval(teacher):
        print(f"Compare {what}, for each student and for the teacher:")
        for student in rounds["rounds"]:
            print(f"  textflow eval {quote(str(folder / student['run']))} --steps {student['steps']}")
        return
    candidates = [folder.parent / "scorer", Path(rounds["teacher"]).parent / "scorer"]
    if not (scorers := [candidate for candidate in candidates if candidate.is_dir()]):
        advice = f"textflow eval {quote(str(rounds['teacher']))} fits a scorer; then run this again"
        return print(f"To compare them with their teacher: {advice}")
    from rich.console import Console

    from textflow.eval.distillation.measure import EvalConfig, evaluate_rounds, target_errors
    from textflow.eval.protocol import run_recipe, validation_batch
    from textflow.models.causal_lm import load_scorer
    from textflow.runtime.atomic import atomic_write_json

    console, records = Console(width=max(150, Console().width), markup=False), []
    scorer, path = load_scorer(str(scorers[0])), folder / "rounds_scored.json"
    batch = validation_batch(run_recipe(folder / rounds["rounds"][0]["run"])["data"], 64)
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    config = EvalConfig(scorer, batch, n, previous_records=known)
    with console.status("scoring") as status:
        errors = target_errors(folder, batch)
        for record in evaluate_rounds(folder, config):
            records.append(record)
            atomic_write_json(path, [*records, *config.previous_records[len(records) :]])
            status.update(f"scored {len(records)} rows")
    atomic_write_json(path, records)
    print_tables(console, records, errors, f"n = {n}, seed 0, scorer {scorers[0]} {scorer.weights_hash} {scorer.dtype}")


def compared_by_eval(teacher: Path) -> str:
    """Results of `textflow eval` by which students of a run are compared; empty where they get a table of their own."""
    from textflow.eval.conditional import is_conditional
    from textflow.eval.protocol import has_latents

    from .scorers import default_protocol

    if is_conditional(teacher):
        return "their answers with the targets of the test split"
    if default_protocol(teacher) == "stories":
        return "their shares of valid stories"
    return "" if has_latents(teacher) else "their perplexities"


def print_tables(console: Any, records: list[dict[str, Any]], cost: list[dict[str, Any]], protocol: str) -> None:
    """Print tables of the rounds, students against their teacher, gaps between samplers, and errors of targets."""
    from textflow.eval.distillation.tables import PUBLISHED, sampler_gaps, student_teacher_gaps

    from .measures import make_table

    gaps, samplers = student_teacher_gaps(records), sampler_gaps(records)
    rows = [{name: record[name] for name in COLUMNS if name in record} for record in records]
    for title, table in (
        (f"Rounds: {protocol}; DABI measures the net, CCI and stiffness measure sampling [ours]", rows),
        ("Students against their teacher at the same number of steps, with the same sampler", gaps),
        (f"Reduction of perplexity relative to the ODE sampler; published {PUBLISHED}", samplers),
        ("Targets other than the teacher's Euler trajectory: their distance from it", cost),
    ):
        if table or table is not cost:
            console.print(make_table(title, table))
