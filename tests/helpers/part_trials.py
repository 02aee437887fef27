"""How a part is tried with a system: samples, a measure, a metric of samples, or a training step of a student."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, get_args, get_type_hints

from tests.helpers.systems import make
from tests.helpers.trained_codecs import LENGTH, VOCAB, texts
from textflow.diagnostics import Diagnostic
from textflow.diagnostics.base import require_latents
from textflow.discrete import DiscreteConsistency, DuoSampler
from textflow.distill import StepDistillation
from textflow.distill import targets as rules
from textflow.distill.base import StudentObjective
from textflow.noise import Noise
from textflow.schedules import Uniform

SEEDS = [1, 2]
unchanged = cache(make)  # a system with its own parts, for questions that change nothing


def require_place(model: Any, name: str, part: Any) -> None:
    """Refuse a part that a recipe could not name there: the model has no such argument, or one of another noun."""
    hint = get_type_hints(type(model).__init__).get(name)
    if hint is None:
        raise ValueError(f"a {type(model).__name__} has no `model.{name}`")
    nouns = [noun for noun in get_args(hint) or (hint,) if noun is not type(None)]
    if not isinstance(part, tuple(nouns)):
        raise ValueError(f"`model.{name}` of a {type(model).__name__} takes the noun {nouns[0].__name__}")


def use(system: str, **part: Any) -> list[list[int]]:
    """Samples of a system that has the part from the start, as its recipe would name it."""
    for name, value in part.items():
        require_place(unchanged(system), name, value)
    ids = make(system, **part).sample_ids(SEEDS, 3)
    assert ids.shape == (len(SEEDS), LENGTH) and bool(((ids >= 0) & (ids < VOCAB)).all())
    return ids.tolist()


samples = cache(use)  # of a system with its own parts


def measure(system: str, diagnostic: Diagnostic) -> None:
    """A diagnostic of a system on random text."""
    model, batch = make(system), texts()
    require_latents(model)  # as at the start of a fit
    values = diagnostic.measure(model, batch, Noise(range(len(batch.ids))))
    assert values


def score(system: str, metric: Callable[[list[list[int]]], float]) -> None:
    """A metric of samples."""
    assert math.isfinite(metric(samples(system)))


def teach(system: str, objective: Any) -> None:
    """One training step of a student of the system."""
    maps = isinstance(getattr(objective, "target", None), rules.TeacherFlowMap)
    teacher, options = make(system, two_time=maps), dict[str, Any]()
    require_place(teacher, "objective", objective)
    if isinstance(objective, StudentObjective):
        objective.teacher_objective = teacher.objective
    if isinstance(objective, DiscreteConsistency):
        options["sampler"] = DuoSampler()
    student = make(system, objective=objective, two_time=not isinstance(objective, StepDistillation), **options)
    student.learn_from(teacher, teacher)
    loss = student.train().losses(student.net, texts())["loss"]
    loss.backward()
    assert bool(loss.isfinite())


def even_law(system: str) -> Uniform:
    """Uniform times of a system's path."""
    path = getattr(unchanged(system), "path", None)
    return Uniform(path.t_min, path.t_max) if path else Uniform()
