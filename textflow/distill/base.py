"""Objectives with a teacher: of students, and of flows that train from the data without one."""

from abc import ABC
from functools import partial

from textflow.distill.targets.base import DataTeacher, PredictFn, Target
from textflow.distill.targets.flow_map import TeacherFlowMap
from textflow.layers.frozen import Frozen
from textflow.nets.base import DecodingDenoiser, Denoiser
from textflow.objectives.base import Objective
from textflow.objectives.elf import ELFObjective
from textflow.schedules.base import TimeSchedule
from textflow.types import Conditioning, Latents, Posterior, Times


class FlowObjective(Objective, ABC):
    """An objective that trains `target` from the data, or from any teacher on the same latents and path."""

    teacher: Frozen | None

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target, self.teacher = target, None

    def set_teacher(self, objective: Objective, teacher: Denoiser) -> None:
        """Use a teacher in place of the data.

        Args:
            objective: objective that the teacher was trained for; any.
            teacher: denoiser that was trained on the same latents and path.
        """
        require_end(self.target, teacher)
        self.teacher = Frozen(teacher)

    def teacher_or_data(self, x: Latents) -> PredictFn:
        """The teacher, or the clean latents x in its place."""
        return DataTeacher(x) if self.teacher is None else self.teacher


class StudentObjective(Objective, ABC):
    """An objective with a teacher; `teacher_objective` is the one that the teacher was trained for."""

    teacher_objective: Objective
    teacher: Frozen | None

    def __init__(self, target: Target | None, teacher_objective: Objective | None) -> None:
        super().__init__()
        self.target, self.teacher_objective, self.teacher = target, teacher_objective or ELFObjective(), None

    @property
    def time_schedule(self) -> TimeSchedule:  # type: ignore[override]
        """The teacher's time schedule, which places the student's steps."""
        return self.teacher_objective.time_schedule

    def set_teacher(self, objective: Objective, teacher: Denoiser) -> None:
        """Take a teacher, and the buffers of its objective: a time schedule that was fitted.

        Args:
            objective: objective that the teacher was trained for, or a student's objective.
            teacher: trained denoiser.
        """
        learned = getattr(objective, "teacher_objective", objective)
        if type(learned) is not type(self.teacher_objective):
            raise ValueError(
                f"the teacher was trained for {type(learned).__name__}, but teacher_objective of the student is "
                f"{type(self.teacher_objective).__name__}; leave teacher_objective out, it is taken from the "
                "teacher's recipe"
            )
        require_end(self.target, teacher)
        if learned.state_dict().keys() == self.teacher_objective.state_dict().keys():
            self.teacher_objective.load_state_dict(learned.state_dict())
        self.teacher = Frozen(teacher)

    def require_teacher(self) -> PredictFn:
        """The denoiser of the teacher; raises an error without one."""
        if self.teacher is None:
            raise ValueError(
                f"{type(self).__name__} has no teacher: name its run, `textflow distill RECIPE --teacher RUN`"
            )
        return self.teacher.module


def require_end(target: Target | None, teacher: Denoiser) -> None:
    """Raise an error if the target is the flow map of a teacher that has none."""
    if isinstance(target, TeacherFlowMap) and not teacher.two_time:
        raise ValueError(
            "the target TeacherFlowMap needs a teacher that is conditioned on the end of a step (two_time: true), and "
            f"this {type(teacher).__name__} is not; use SemiGroup, which needs none"
        )


def mean_only(net: PredictFn) -> PredictFn:
    """A denoiser's clean predictions, without the token logits of a commitment head."""
    if not isinstance(net, DecodingDenoiser):
        return net
    return partial(predict_mean, net)


def predict_mean(net: DecodingDenoiser, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
    """The belief of a net that is its clean prediction alone."""
    return Posterior(net.predict_clean(z, t, cond))
