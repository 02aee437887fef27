"""Rounds: every student beside its teacher at the same number of steps, under the same ways to sample."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textflow.diagnostics.base import look
from textflow.diagnostics.callbacks import ratio
from textflow.diagnostics.dabi import dabi
from textflow.diagnostics.sample_callbacks import chosen, stiffness_of
from textflow.diagnostics.target_error import target_error
from textflow.distill import Distill
from textflow.distill.targets import Progressive, SalimansHo
from textflow.escapes import Commit, Escape, Soft
from textflow.metrics import Scorer
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.objectives import Objective
from textflow.samplers import Euler, Reinject, Renoise, Sampler
from textflow.types import Batch

from ..measure import evaluate, fields
from ..record import Record
from ..report.trajectory_files import of_weights

SAMPLERS: dict[str, tuple[Escape, Sampler]] = {
    "ODE": (Soft(), Euler()),
    "re-injection": (Soft(), Reinject()),
    "mode commit": (Commit(), Renoise()),
}


@dataclass(frozen=True)
class Trial:
    """How a model is judged.

    Args:
        scorer: the language model that judges.
        batch: held-out text, for DABI.
        n: samples of each record.
        seed: of the samples.
        kept: records that were made before; those of the same weights, judged alike, are not made again.
    """

    scorer: Scorer
    batch: Batch
    n: int = 128
    seed: int = 0
    kept: Sequence[Record] = ()

    def facts(self, who: str, run: Path, steps: int) -> Record:
        """What the records of a model at a number of steps share."""
        judge = {"scorer_hash": self.scorer.hash, "n": self.n, "seed": self.seed}
        return {"who": who, "run": run.name, "steps": steps, "checkpoint_hash": of_weights(run), **judge}


def rounds(folder: Path, trial: Trial) -> Iterator[Record]:
    """A record for every student and its teacher, number of steps and way to sample.

    Args:
        folder: of a distillation.
        trial: how they are judged.
    """
    said, told = json.loads((folder / "rounds.json").read_text()), set()
    teacher = trained(Path(said["teacher"]))
    own = way_of(trained(folder / said["rounds"][-1]["run"]))
    for made in said["rounds"]:
        student = trained(folder / made["run"])
        for steps in said.get("passes") or [made["steps"]]:
            if steps not in told:
                told.add(steps)
                yield from rows(teacher, trial.facts("teacher", Path(said["teacher"]), steps), own, trial)
            yield from rows(student, trial.facts("student", folder / made["run"], steps), own, trial)


def trained(run: Path) -> Generator:
    """The generator of a run."""
    from textflow.run_folder import load

    model = load(run)
    if not isinstance(model, Generator):
        raise ValueError(f"{run} holds a {type(model).__name__}, not a Generator: it is neither teacher nor student")
    return model


def way_of(model: Generator) -> dict[str, tuple[Escape, Sampler]]:
    """The way that a recipe itself samples, where it is none of the others."""
    own = (model.escape, model.sampler)
    return {} if any(same(own, way) for way in SAMPLERS.values()) else {"recipe's": own}


def same(one: tuple[Escape, Sampler], other: tuple[Escape, Sampler]) -> bool:
    """Whether two ways are one."""
    return [fields(part) for part in one] == [fields(part) for part in other]


def rows(model: Generator, facts: Record, own: dict[str, tuple[Escape, Sampler]], trial: Trial) -> Iterator[Record]:
    """The ways of one model at one number of steps; DABI is the net's, the others are the way's.

    Stiffness is the peak along one sample, by four iterations from one start: a lower bound.
    """
    steps, seed = facts["steps"], trial.seed
    known = {r["sampling"]: r for r in trial.kept if all(r.get(key) == value for key, value in facts.items())}
    ways = SAMPLERS | own if steps > 1 else {"ODE": SAMPLERS["ODE"]}  # of one step all are one
    net = structured(model, steps, trial.batch, seed) if set(ways) - set(known) else {}
    for name, (model.escape, model.sampler) in ways.items():
        if name in known:
            yield known[name]
            continue
        (record,) = evaluate(model, trial.scorer, [steps], trial.n, seed)
        seeds = sample_seeds(seed, 0, 32)
        cci = chosen(model, model.sample(seeds, steps), Noise(seeds))
        stiff = float(stiffness_of(model, seeds[:1], steps, starts=1, iterations=4).peak.mean())
        yield record | facts | {"sampling": name, "cci": cci, "stiffness": stiff} | net


def structured(model: Generator, steps: int, batch: Batch, seed: int) -> dict[str, float]:
    """DABI at the last time before the text; a single step has none."""
    if steps < 2:
        return {}
    seen, noise = look(model, batch), Noise(sample_seeds(seed, 0, len(batch.ids)))
    met = seen.terminal(steps, noise)
    found = dabi(seen.read, seen.x, met.guess, seen.mask, noise, draws=4)
    return ratio("dabi_ce", found.loss) | ratio("dabi_flip", found.flip)


def costs(folder: Path, batch: Batch) -> list[dict[str, Any]]:
    """How far the targets of the rounds lie from the first teacher's walk by Euler's rule, where they are another one.

    Args:
        folder: of a distillation.
        batch: held-out text.
    """
    said = json.loads((folder / "rounds.json").read_text())
    teacher, before, found = trained(Path(said["teacher"])), None, []
    for made in said["rounds"]:
        student = trained(folder / made["run"])
        of, substeps = student.objective, walked(student.objective, made["substeps"])
        if substeps and isinstance(of, Distill):
            first = before is None or not of.renew
            of.learn_from(teacher.objective, teacher.twin if first or before is None else before.twin)
            of.embed = teacher.embed
            found.append({"K": made["steps"], "target": change(of)} | distance(student, of, batch, substeps, teacher))
        before = student
    return found


def walked(objective: Objective, substeps: int) -> int:
    """Euler steps of the walk that a target stands for; 0 where it is one itself, or stands for none."""
    if not isinstance(objective, Distill):
        return 0
    target = objective.target
    if isinstance(target, SalimansHo):
        return 16
    if not isinstance(target, Progressive):
        return 0
    changed = objective.choose is not None or objective.precision == "bf16" or objective.renew or not target.plain
    return substeps * (4 if target.order == 2 else 1) * changed


def change(objective: Distill) -> str:
    """What is other about a target, in words."""
    target, words = objective.target, []
    words += ["teacher of the round before"] * objective.renew + ["bf16"] * (objective.precision == "bf16")
    words += [f"{type(objective.choose).__name__} chosen"] * (objective.choose is not None)
    words += [f"fair {objective.fair:g}"] * (objective.fair > 0)
    if isinstance(target, Progressive):
        words += [f"order {target.order}, {target.substeps} substeps"] * (target.order > 1)
        words += [f"re-injection {target.gamma}"] * (target.gamma > 0) + ["earlier belief"] * (target.earlier > 0)
    return ", ".join([type(target).__name__, *words])


@torch.no_grad()
def distance(student: Generator, of: Distill, batch: Batch, substeps: int, teacher: Generator) -> dict[str, Any]:
    """`target_error` on held-out text, by one draw of noise."""
    x = student.clean(batch)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = of.like.draw(x)
        cost = target_error(of, student.path, x, batch.mask, draws, substeps, None, teacher.twin)
    return {"Euler steps": substeps, "error": float(cost["error"]), "share of one step's": float(cost["share"])}
