"""Which parts run with which systems. `python -m tests.helpers.part_table` writes the table into textflow/README.md.

A part runs if samples, measures or a training step come out; it is refused by an error in one line. Anything else is a
fault of textflow. A new part of a kind below is found by itself; a new system is an entry of tests/helpers/systems.py.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers.engine_trials import ENGINES, train
from tests.helpers.part_trials import even_law, measure, rate, score, teach, use
from tests.helpers.systems import SYSTEMS
from tests.helpers.trained_codecs import VOCAB
from textflow import diagnostics, discrete, escapes, samplers, schedules
from textflow.diagnostics import Diagnostic
from textflow.discrete import DiscreteConsistency, DiscreteSampler
from textflow.distill import FlowMap, FlowMapDistillation, MeanFlowObjective, StepDistillation, TokenDistillation
from textflow.distill import targets as rules
from textflow.escapes import Commit, Escape, Gate
from textflow.eval.protocol import protocol_names
from textflow.metrics import NgramOverlap, distinct_n, mean_entropy, sequence_repetition
from textflow.samplers import EarlyExit, Order, Sampler
from textflow.schedules import FlipRate, OneHotDecodeError, RandomGrid, TimeSchedule, Uniform

README = Path(__file__).parents[2] / "textflow" / "README.md"
BEGIN, END = "<!-- python -m tests.helpers.part_table -->\n", "<!-- end of the table -->\n"


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
    """The concrete subclasses of an abstract class that a folder exports, in its order."""
    found = [each for each in vars(module).values() if inspect.isclass(each) and issubclass(each, base)]
    return [each for each in found if not inspect.isabstract(each)]


SCHEDULE_ARGUMENTS: dict[type, Callable[[str], TimeSchedule]] = {
    RandomGrid: lambda system: RandomGrid(even_law(system)),
    Uniform: even_law,
    OneHotDecodeError: lambda system: OneHotDecodeError(VOCAB),
    FlipRate: lambda system: FlipRate(num_points=5),
}
SMALLER = {"num_steps": 2, "num_iterations": 1, "num_draws": 2, "num_candidates": 2}  # sizes of diagnostics
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


def smaller(diagnostic: type) -> dict[str, int]:
    """The small sizes that a diagnostic takes."""
    return {name: size for name, size in SMALLER.items() if name in inspect.signature(diagnostic).parameters}


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
            lambda system, own=diagnostic: measure(system, own(**smaller(own))),
        )
    for name, metric in METRICS.items():
        yield Part("metric", name, lambda system, own=metric: score(system, own))
    for protocol in protocol_names():
        yield Part("protocol", protocol, lambda system, own=protocol: rate(system, own))
    for engine in ENGINES:
        yield Part("engine", engine, lambda system, own=engine: train(system, own))
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
    yield Part("objective of a student", "TokenDistillation", lambda system: teach(system, TokenDistillation()))
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
