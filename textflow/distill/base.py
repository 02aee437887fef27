"""StudentObjective: an objective with a frozen teacher, on the rows of the teacher's own objective."""

from abc import ABC

from textflow.distill.targets.base import DenoiserFn
from textflow.layers.frozen import Frozen
from textflow.nets.base import DecodingDenoiser, Denoiser
from textflow.objectives.base import Objective
from textflow.schedules.base import TimeSchedule
from textflow.types import Conditioning, Latents, Posterior, Times


class StudentObjective(Objective, ABC):
    """An objective with a teacher; `teacher_objective` is the one that the teacher was trained for."""

    teacher_objective: Objective
    teacher: Frozen | None

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
        if learned.state_dict().keys() == self.teacher_objective.state_dict().keys():
            self.teacher_objective.load_state_dict(learned.state_dict())
        self.teacher = Frozen(teacher)


def mean_only(net: DenoiserFn) -> DenoiserFn:
    """A net's clean predictions, without the token logits of a commitment head."""
    if not isinstance(net, DecodingDenoiser):
        return net

    def predict(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return Posterior(net.predict_x0(net.forward_hidden(z, t, cond)))

    return predict
