"""How a part is tried with a system: samples, a measure, a metric of samples, or a training step of a student."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

from tests.helpers.systems import make
from tests.helpers.tiny_scorer import save_scorer
from tests.helpers.trained_codecs import LENGTH, VOCAB, texts
from textflow.diagnostics import Diagnostic
from textflow.diagnostics.base import require_latents
from textflow.discrete import DiscreteConsistency, DuoSampler
from textflow.distill import StepDistillation
from textflow.distill import targets as rules
from textflow.distill.base import StudentObjective
from textflow.eval.extra_metrics import ExtraMetrics
from textflow.eval.measure import evaluate
from textflow.eval.protocol import load_protocol
from textflow.eval.scoring import ScorerConfig
from textflow.metrics import TextScorer
from textflow.noise import Noise
from textflow.schedules import Uniform

SEEDS = [1, 2]
unchanged = cache(make)  # a system with its own parts, for questions that change nothing


def require_place(model: Any, name: str, part: Any) -> None:
    """Refuse a part that a recipe could not name there: the model has no such argument, or one of another noun."""
    hint = get_type_hints(type(model).__init__).get(name)
    if hint is None:
        raise ValueError(f"a {type(model).__name__} has no `model.{name}`")
    classes = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    if not isinstance(part, tuple(classes)):
        raise ValueError(f"`model.{name}` of a {type(model).__name__} takes a part of the class {classes[0].__name__}")


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


class TrainingRows:
    """Random training text, in place of the rows of a data module."""

    def __len__(self) -> int:
        return len(texts().ids)

    def __getitem__(self, index: range) -> SimpleNamespace:
        return SimpleNamespace(ids=texts().ids[list(index)], lengths=None)


@cache
def protocol_scorer(protocol: str) -> TextScorer:
    """The scorer of a protocol, with a tiny GPT-2 in place of its language model."""
    with TemporaryDirectory() as folder:
        config = load_protocol(protocol)
        model = "sentences" if config.scorer == "grammar" else str(save_scorer(Path(folder), 2 * LENGTH))
        return ScorerConfig(config, model, model).load()


def rate(system: str, protocol: str) -> None:
    """Samples of a system, drawn and measured by a protocol's settings, a batch of its scorer in number."""
    config, scorer, model = load_protocol(protocol), protocol_scorer(protocol), unchanged(system)
    data = SimpleNamespace(rows=TrainingRows(), tokenizer=model.tokenizer, vocab_size=VOCAB)
    options: dict[str, Any] = {"extra_metrics": ExtraMetrics(data if config.memorization else None)}
    (record,) = evaluate(model, scorer, [3], config.batch_size, entropy_ids=config.entropy_ids, **options)
    measured = ["stories/valid"] if config.scorer == "grammar" else ["perplexity"]
    measured += ["memorized_4grams"] if config.memorization else []
    assert all(math.isfinite(record[name]) for name in measured) and record["n"] == config.batch_size


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
