"""Which parts run with which systems. `python -m tests.helpers.part_table` writes the table into textflow/README.md.

A part runs if samples, measures or a training step come out; it is refused by an error in one line. Anything else is a
fault of textflow. A new part of a kind below is found by itself; a new system is an entry of tests/helpers/systems.py.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from tests.helpers.systems import LENGTH, SYSTEMS, VOCAB, make, texts
from textflow import diagnostics, discrete, escapes, samplers, schedules
from textflow.diagnostics import Diagnostic, Stiffness
from textflow.diagnostics.base import require_latents
from textflow.discrete import DiscreteConsistency, DiscreteSampler, DuoSampler
from textflow.distill import FlowMap, FlowMapDistillation, MeanFlowObjective, StepDistillation
from textflow.distill import targets as rules
from textflow.distill.base import StudentObjective
from textflow.escapes import Commit, Escape, Gate
from textflow.metrics import NgramOverlap, distinct_n, mean_entropy, sequence_repetition
from textflow.noise import Noise
from textflow.samplers import EarlyExit, Order, Sampler
from textflow.schedules import OneHotDecodeError, RandomGrid, TimeSchedule, Uniform

README = Path(__file__).parents[2] / "textflow" / "README.md"
BEGIN, END = "<!-- python -m tests.helpers.part_table -->\n", "<!-- end of the table -->\n"
SEEDS = [1, 2]


class Part(NamedTuple):
    """A part and how it is tried.

    Args:
        kind: heading in the table.
        name: name in the table.
        use: runs a system, given by its name, with the part.
    """

    kind: str
    name: str
    use: Callable[[str], None]


def classes(module: Any, base: type) -> list[type]:
    """The concrete subclasses of a noun that a room exports, in its order."""
    found = [each for each in vars(module).values() if inspect.isclass(each) and issubclass(each, base)]
    return [each for each in found if not inspect.isabstract(each)]


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
        require_place(make(system), name, value)
    ids = make(system, **part).sample_ids(SEEDS, 3)
    assert ids.shape == (len(SEEDS), LENGTH) and bool(((ids >= 0) & (ids < VOCAB)).all())
    return ids.tolist()


def measure(system: str, diagnostic: Diagnostic) -> None:
    """A diagnostic of a system on random text."""
    model, batch = make(system), texts()
    require_latents(model)  # as at the start of a fit
    values = diagnostic.measure(model, batch, Noise(range(len(batch.ids))))
    assert values


def score(system: str, metric: Callable[[list[list[int]]], float]) -> None:
    """A metric of samples."""
    assert math.isfinite(metric(use(system)))


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
    path = getattr(make(system), "path", None)
    return Uniform(path.t_min, path.t_max) if path else Uniform()


SCHEDULE_ARGUMENTS: dict[type, Callable[[str], TimeSchedule]] = {
    RandomGrid: lambda system: RandomGrid(even_law(system)),
    Uniform: even_law,
    OneHotDecodeError: lambda system: OneHotDecodeError(VOCAB),
}
SMALLER: dict[type, dict[str, int]] = {Stiffness: {"num_steps": 2, "num_iterations": 1}}
METRICS: dict[str, Callable[[list[list[int]]], float]] = {
    "entropy": mean_entropy,
    "distinct-2": lambda samples: distinct_n(samples, 2),
    "seq-rep-4": lambda samples: max(map(sequence_repetition, samples)),
    "4-grams of the training text": lambda samples: float(NgramOverlap(samples, VOCAB + 1).num_ngrams.sum()),
}
OF_FLOW_MAPS: dict[str, Callable[[], Any]] = {
    "SemiGroup": rules.SemiGroup,
    "Eulerian": lambda: rules.Eulerian(min_one_minus_t=0.3),
    "Lagrangian": lambda: rules.Lagrangian(project_to_simplex=False),
    "MeanFlow": rules.MeanFlow,
    "TeacherFlowMap": rules.TeacherFlowMap,
}


def parts() -> Iterator[Part]:
    """Every part of the table, in its order."""
    for escape in classes(escapes, Escape):
        yield Part("escape", escape.__name__, lambda system, own=escape: use(system, escape=own()))
    for gate in classes(escapes, Gate):
        yield Part("gate of Commit", gate.__name__, lambda system, own=gate: use(system, escape=Commit(gate=own())))
    for room, noun in ((samplers, Sampler), (discrete, DiscreteSampler)):
        for rule in classes(room, noun):
            yield Part("sampler", rule.__name__, lambda system, own=rule: use(system, sampler=own()))
    yield Part("sampler", "EarlyExit", lambda system: use(system, early_exit=EarlyExit(margin=1.0)))
    for order in classes(samplers, Order):
        yield Part("order", order.__name__, lambda system, own=order: use(system, order=own()))
    for law in classes(schedules, TimeSchedule):
        made = SCHEDULE_ARGUMENTS.get(law, lambda system, own=law: own())
        yield Part("schedule", law.__name__, lambda system, own=made: use(system, sampling_schedule=own(system)))
    for diagnostic in classes(diagnostics, Diagnostic):
        yield Part(
            "diagnostic",
            diagnostic.__name__,
            lambda system, own=diagnostic: measure(system, own(**SMALLER.get(own, {}))),
        )
    for name, metric in METRICS.items():
        yield Part("metric", name, lambda system, own=metric: score(system, own))
    yield from students()


def students() -> Iterator[Part]:
    """Every target with each objective that trains on it."""
    for rule in (rules.Progressive, rules.SalimansHo, rules.Consistency):
        yield Part(
            "target of StepDistillation",
            rule.__name__,
            lambda system, own=rule: teach(system, StepDistillation(own(), 4)),
        )
    square = partial(FlowMap, offdiagonal_loss="square", diagonal_loss="square")  # of means, which every net gives
    objectives: dict[str, Callable[[str, Any], Any]] = {
        "FlowMapDistillation": lambda system, target: FlowMapDistillation(target),
        "FlowMap": lambda system, target: square(target, even_law(system)),
    }
    for kind, objective in objectives.items():
        for name, made in OF_FLOW_MAPS.items():
            yield Part(
                f"target of {kind}", name, lambda system, own=made, to=objective: teach(system, to(system, own()))
            )
    yield Part("objective of a student", "MeanFlowObjective", lambda system: teach(system, mean_flow(system)))
    yield Part(
        "objective of a student", "DiscreteConsistency", lambda system: teach(system, DiscreteConsistency(steps=4))
    )


def mean_flow(system: str) -> MeanFlowObjective:
    """A mean flow over the times of the system's path."""
    law = even_law(system)
    return MeanFlowObjective(law, law) if law.log_snr else MeanFlowObjective()


@cache
def outcome(part: Part, system: str) -> str:
    """Empty if the part runs with the system, else the reason why it is refused."""
    try:
        part.use(system)
    except ValueError as error:
        return str(error)
    return ""


every_part = cache(lambda: tuple(parts()))


def table() -> str:
    """The table in Markdown, with the reasons below it."""
    reasons: dict[str, int] = {}
    lines = [f"| part | {' | '.join(SYSTEMS)} |", f"|---|{'---|' * len(SYSTEMS)}"]
    for i, part in enumerate(every_part()):
        if not i or every_part()[i - 1].kind != part.kind:
            lines.append(f"| *{part.kind}* |{' |' * len(SYSTEMS)}")
        found = [outcome(part, system) for system in SYSTEMS]
        cells = [f"({reasons.setdefault(why, len(reasons) + 1)})" if why else "yes" for why in found]
        lines.append(f"| {part.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {why}" for why, number in reasons.items())]) + "\n"


def written() -> str:
    """The table in textflow/README.md."""
    return README.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write() -> None:
    """Write the table into textflow/README.md, between its marks."""
    before, mark, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(f"{before}{mark}{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write()
