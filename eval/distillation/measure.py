"""Distillation rounds: each student against its teacher at the same number of steps, with the same samplers."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textflow.codecs import encode_batch
from textflow.diagnostics.base import diagnostic_inputs
from textflow.diagnostics.callbacks import ratio_metrics
from textflow.diagnostics.dabi import dabi
from textflow.diagnostics.sample_callbacks import generator_cci, generator_stiffness
from textflow.diagnostics.target_error import target_error
from textflow.distill import StepDistillation
from textflow.distill.targets import Progressive, SalimansHo
from textflow.escapes import Commit, Escape, NoEscape
from textflow.metrics import Scorer
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.objectives import Objective
from textflow.objectives.elf import ELFDraws
from textflow.samplers import Ancestral, Euler, Reinject, Sampler
from textflow.types import Batch

from ..measure import evaluate
from ..record import Record, part_fields
from ..report.trajectory_files import weights_hash


def standard_samplers(model: Generator) -> dict[str, tuple[Escape, Sampler]]:
    """The ODE, re-injection in the form that the path allows, and mode commit where a token has a latent."""
    samplers: dict[str, tuple[Escape, Sampler]] = {
        "ODE": (NoEscape(), Euler()),
        "re-injection": (NoEscape(), Reinject()),
        "mode commit": (Commit(), Ancestral()),
    }
    if not model.codec.has_latent_per_token(model.text_format.seq_length):
        del samplers["mode commit"]
    return samplers


@dataclass(frozen=True)
class EvalConfig:
    """Scorer, data and sample settings of an evaluation.

    Args:
        scorer: scorer of the samples.
        held_out_batch: held-out text for DABI.
        num_samples: number of samples per sampler.
        seed: random seed for sampling.
        previous_records: earlier records; those with the same weights and evaluation settings are reused.
    """

    scorer: Scorer
    held_out_batch: Batch
    num_samples: int = 128
    seed: int = 0
    previous_records: Sequence[Record] = ()

    def record_facts(self, role: str, run: Path, steps: int) -> Record:
        """Common entries of a model's records at a number of steps."""
        scoring = {"scorer_hash": self.scorer.weights_hash, "n": self.num_samples, "seed": self.seed}
        return {"role": role, "run": run.name, "steps": steps, "checkpoint_hash": weights_hash(run), **scoring}


def evaluate_rounds(folder: Path, config: EvalConfig) -> Iterator[Record]:
    """Records for every student and its teacher, number of steps and sampler."""
    rounds, known = json.loads((folder / "rounds.json").read_text(encoding="utf-8")), set()
    teacher_run = Path(rounds["teacher"])
    teacher = load_generator(teacher_run)
    own = recipe_sampler(load_generator(folder / rounds["rounds"][-1]["run"]))
    for distilled in rounds["rounds"]:
        run = folder / distilled["run"]
        student = load_generator(run)
        for steps in rounds.get("eval_steps") or [distilled["steps"]]:
            if steps not in known:
                known.add(steps)
                yield from evaluate_samplers(teacher, config.record_facts("teacher", teacher_run, steps), own, config)
            yield from evaluate_samplers(student, config.record_facts("student", run, steps), own, config)


def load_generator(run: Path) -> Generator:
    """Load the generator of a run."""
    from textflow.run_folder import load

    model = load(run)
    if not isinstance(model, Generator):
        raise ValueError(f"{run} holds a {type(model).__name__}, not a Generator: it is neither teacher nor student")
    return model


def recipe_sampler(model: Generator) -> dict[str, tuple[Escape, Sampler]]:
    """Sampler of the recipe, if it differs from the standard ones."""
    own = (model.escape, model.sampler)
    standard = [[part_fields(part) for part in parts] for parts in standard_samplers(model).values()]
    return {} if [part_fields(part) for part in own] in standard else {"recipe's": own}


def evaluate_samplers(
    model: Generator, facts: Record, recipe_samplers: dict[str, tuple[Escape, Sampler]], config: EvalConfig
) -> Iterator[Record]:
    """Records of one model at one number of steps; DABI depends only on the network, the rest on the sampler.

    Stiffness is the peak along one sample, by four iterations from one start: a lower bound.
    """
    steps, seed = facts["steps"], config.seed
    previous = (r for r in config.previous_records if all(r.get(key) == value for key, value in facts.items()))
    known = {record["sampler_name"]: record for record in previous}
    samplers = (
        standard_samplers(model) | recipe_samplers if steps > 1 else {"ODE": (NoEscape(), Euler())}
    )  # one step: all agree
    net = measure_dabi(model, steps, config.held_out_batch, seed) if set(samplers) - set(known) else {}
    for name, (model.escape, model.sampler) in samplers.items():
        if name in known:
            yield known[name]
            continue
        (record,) = evaluate(model, config.scorer, [steps], config.num_samples, seed)
        seeds = sample_seeds(seed, 0, 32)
        cci = generator_cci(model, model.sample(seeds, steps), Noise(seeds))
        stiff = float(generator_stiffness(model, seeds[:1], steps, num_starts=1, num_iterations=4).peak.mean())
        yield record | facts | {"sampler_name": name, "cci": cci, "stiffness": stiff} | net


def measure_dabi(model: Generator, steps: int, batch: Batch, seed: int) -> dict[str, float]:
    """DABI at the last interior time; undefined for a single step."""
    if steps < 2:
        return {}
    inputs, noise = diagnostic_inputs(model, batch), Noise(sample_seeds(seed, 0, len(batch.ids)))
    posterior = inputs.terminal_posterior(steps, noise)
    results = dabi(inputs.decode, inputs.x, posterior.x0_pred, inputs.mask, noise, num_draws=4)
    return ratio_metrics("dabi_ce", results.loss) | ratio_metrics("dabi_flip", results.flip)


def target_errors(folder: Path, batch: Batch) -> list[dict[str, Any]]:
    """Errors of the rounds' targets against the first teacher's Euler rollout, where they differ from it."""
    rounds = json.loads((folder / "rounds.json").read_text(encoding="utf-8"))
    first_teacher, previous, results = load_generator(Path(rounds["teacher"])), None, []
    for distilled in rounds["rounds"]:
        student = load_generator(folder / distilled["run"])
        objective, substeps = student.objective, euler_substeps(student.objective, distilled["substeps"])
        if substeps and isinstance(objective, StepDistillation):
            teacher = previous if previous and objective.update_teacher else first_teacher
            objective.set_teacher(first_teacher.objective, teacher.ema_net)
            objective.embed = first_teacher.embed
            error = held_out_target_error(student, objective, batch, substeps, first_teacher)
            results.append({"K": distilled["steps"], "target": describe_target(objective)} | error)
        previous = student
    return results


def euler_substeps(objective: Objective, substeps: int) -> int:
    """Euler steps of the rollout that a target approximates; 0 if the target is that rollout or has none."""
    if not isinstance(objective, StepDistillation):
        return 0
    target = objective.target
    if isinstance(target, SalimansHo):
        return 16
    if not isinstance(target, Progressive):
        return 0
    is_bf16 = objective.teacher_precision == "bf16"
    changed = objective.commit_gate is not None or is_bf16 or objective.update_teacher or not target.is_euler
    return substeps * (4 if target.order == 2 else 1) * changed


def describe_target(objective: StepDistillation) -> str:
    """Description of a target's non-default settings."""
    target, parts = objective.target, ["teacher of the round before"] * objective.update_teacher
    parts += ["bf16"] * (objective.teacher_precision == "bf16")
    parts += [f"{type(objective.commit_gate).__name__} chosen"] * (objective.commit_gate is not None)
    parts += [f"logit adjustment {objective.logit_adjustment:g}"] * (objective.logit_adjustment > 0)
    if isinstance(target, Progressive):
        parts += [f"order {target.order}, {target.substeps} substeps"] * (target.order > 1)
        parts += [f"re-injection {target.gamma}"] * (target.gamma > 0)
        parts += ["earlier belief"] * (target.self_cond_shift > 0)
    return ", ".join([type(target).__name__, *parts])


@torch.no_grad()
def held_out_target_error(
    student: Generator, objective: StepDistillation, batch: Batch, substeps: int, teacher: Generator
) -> dict[str, Any]:
    """Target error on held-out text for one noise draw."""
    x = encode_batch(student.codec, batch)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = objective.teacher_objective.sample_draws(x)
        if not isinstance(draws, ELFDraws):
            raise ValueError("target errors need teachers trained by ELFObjective")
        cost = target_error(objective, student.path, x, batch.mask, draws, substeps, None, teacher.ema_net)
    error, share = float(cost["error"]), float(cost["relative_error"])
    return {"Euler steps": substeps, "error": error, "share of one step's": share}
