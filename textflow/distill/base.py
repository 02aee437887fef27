"""Student: what learns from a frozen teacher, on the rows that the teacher was trained on."""

from abc import ABC

from textflow.distill.targets.base import Guess
from textflow.layers.frozen import Frozen
from textflow.nets.base import Denoiser, Speaker
from textflow.objectives.base import Objective
from textflow.objectives.elf import ELFObjective
from textflow.schedules.base import Clock
from textflow.types import Given, Latents, Posterior, Times


class Student(Objective, ABC):
    """An objective with a teacher; `like` is the one that the teacher was trained with."""

    like: ELFObjective
    teacher: Frozen | None

    @property
    def clock(self) -> Clock:
        """The law of times that steps are laid by."""
        return self.like.clock

    def learn_from(self, objective: Objective, teacher: Denoiser) -> None:
        """Take a teacher, and what `like` has of buffers: a clock that was measured.

        Args:
            objective: that the teacher was trained for, as an ELF or as a student of one.
            teacher: trained.
        """
        taught = getattr(objective, "like", objective)
        if not isinstance(taught, ELFObjective):
            raise ValueError(
                f"Distill needs a teacher that ELFObjective trained, but this one learned by {type(taught).__name__}"
            )
        if taught.state_dict().keys() == self.like.state_dict().keys():
            self.like.load_state_dict(taught.state_dict())
        self.teacher = Frozen(teacher)


def quiet(net: Guess) -> Guess:
    """A net's clean guesses, without the token logits of a commitment head."""
    if not isinstance(net, Speaker):
        return net

    def guess(z: Latents, t: Times, given: Given = Given()) -> Posterior:
        return Posterior(net.mean(net.trunk(z, t, given)))

    return guess
