"""Generator: teachers, students and escapes; a net trained by an objective on a codec's latents, and its samples."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from textflow.codecs import Codec
from textflow.codecs.prefix_mask import blank, sight
from textflow.distill import Distill
from textflow.escapes import Escape, Soft
from textflow.models.infilling import shown
from textflow.models.texts import Texts
from textflow.nets import Denoiser, Frozen
from textflow.objectives import Objective
from textflow.paths import Linear, Path
from textflow.readouts import FromNet, Matched, Readout
from textflow.runtime.device import slow_bf16
from textflow.samplers import EarlyStop, Euler, Sampler
from textflow.samplers.prompt import Prompt
from textflow.schedules import Clock, Uniform
from textflow.training import MuonAdam, Warmup
from textflow.types import Batch, Latents


class Generator(Texts):
    """Noise -> latents -> text.

    Args:
        vocab: number of tokens (from the tokenizer).
        codec: text <-> latents, frozen; made from vocab.
        net: the denoiser; made from the codec's dim and vocab.
        objective: what the net is trained for.
        path: how text becomes noise.
        readout: the last belief -> logits: what is written.
        tokens: beliefs on the way -> logits of p(token | z_t): what an escape chooses by.
        escape: what is chosen before the readout.
        sampler: a step from noise towards text.
        grid: times of sampling; default: the clock of the objective.
        guidance: scale w of sampling; 1 is none.
        stop: when a sample takes no further passes; default: never.
        drop: share of rows whose prompt is dropped in training, in [0, 1), for classifier-free guidance.
        optimizer: from pairs (name, parameter).
        schedule: of the learning rate, by optimizer steps.
        ema: decay of the averaged weights, in [0, 1).
        prompt_guidance: scale of classifier-free guidance by prompts; default: 1, none. Others need drop above 0.
    """

    def __init__(
        self,
        vocab: int,
        codec: Callable[[int], Codec],
        net: Callable[[int, int], Denoiser],
        objective: Objective,
        path: Path = Linear(),
        readout: Readout = FromNet(),
        tokens: Readout = Matched(),
        escape: Escape = Soft(),
        sampler: Sampler = Euler(),
        grid: Clock | None = None,
        guidance: float = 1.0,
        stop: EarlyStop | None = None,
        drop: float = 0.0,
        optimizer: Callable[[Any], Optimizer] = lambda params: MuonAdam(params, lr=2e-3),
        schedule: Callable[[Optimizer], LRScheduler] = lambda optimizer: Warmup(optimizer, steps=100),
        ema: float = 0.999,
        prompt_guidance: float | None = None,
    ) -> None:
        super().__init__(optimizer, schedule, ema)
        if not 0 <= drop < 1 or not math.isfinite(guidance):
            raise ValueError(f"drop is {drop}, guidance {guidance}; needs a share in [0, 1) and a finite scale")
        self.codec = codec(vocab).requires_grad_(False)
        self.average(net(self.codec.dim, vocab))
        self.objective, self.path, self.own_grid, self.guidance = objective, path, grid, guidance
        self.readout, self.tokens, self.escape, self.sampler, self.stop = readout, tokens, escape, sampler, stop
        self.drop, self.prompt_guidance = drop, prompt_guidance
        self.train()

    @property
    def grid(self) -> Clock:
        """The law of sampling times."""
        clock = self.own_grid or getattr(self.objective, "clock", None)
        return clock if isinstance(clock, Clock) else Uniform()

    def train(self, mode: bool = True) -> "Generator":
        """The codec stays as it is: its statistics do not move."""
        super().train(mode)
        self.codec.eval()
        return self

    def losses(self, net: Any, batch: Batch) -> dict[str, Tensor]:
        return self.objective(net, self.path, self.clean(batch, self.drop), batch)

    @torch.no_grad()
    def clean(self, batch: Batch, drop: float = 0.0) -> Latents:
        """Latents of a batch; a prompt sees itself alone, and is 0 where it is dropped.

        Args:
            batch: text, perhaps after prompts.
            drop: share of the prompts.
        """
        if batch.fixed is None:
            return self.codec.encode(batch.ids, batch.mask)
        dropped = torch.rand(len(batch.ids), device=batch.ids.device) < drop
        return blank(self.codec.encode(batch.ids, sight(batch.mask, batch.fixed, dropped)), batch.fixed, dropped)

    def take_codec(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the codec of a trained Autoencoder.

        Args:
            tensors: its model.safetensors.
        """
        found = {name.removeprefix("net."): tensor for name, tensor in tensors.items() if name.startswith("net.")}
        try:
            self.codec.load_state_dict(found)
        except RuntimeError as error:
            raise ValueError(f"the trained codec does not fit model.codec of this recipe: {error}") from error

    def take_teacher(self, teacher: "Generator", start: "Generator") -> None:
        """Learn from a teacher, beginning as another.

        Args:
            teacher: its averaged net walks; its codec, and the clocks it was trained by, are taken over.
            start: its averaged weights are the first ones.
        """
        self.codec.load_state_dict(teacher.codec.state_dict())
        self.twin.begin_as(start.twin.state_dict())
        self.net.load_state_dict(self.twin.state_dict())
        teacher.twin.run_as(self.net)
        self.objective.learn_from(teacher.objective, teacher.twin)
        if isinstance(self.objective, Distill):
            self.objective.average, self.objective.embed = Frozen(self.twin), self.embed

    def on_fit_start(self) -> None:
        """A codec that learns must have learned; a clock that is measured is measured. A dry run needs neither.
        A teacher that computes slowly is told."""
        half = isinstance(self.objective, Distill) and self.objective.precision == "bf16"
        if half and (slow := slow_bf16(self.device.type)):
            rank_zero_warn(f"objective.precision bf16: {slow}; same is not")
        if not self.codec.ready and self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            for clock in self.unmeasured():
                clock.assume_uniform()
            return
        if not self.codec.ready:
            raise ValueError(
                f"the codec {type(self.codec).__name__} is not trained: name its recipe or its run with --codec"
            )
        self.measure(self.real_text(128), [clock for clock in self.unmeasured() if not clock.needs_denoiser])

    @torch.no_grad()
    def measure(self, batch: Batch, clocks: list[Clock]) -> None:
        """Measure clocks; of pairs only the targets count.

        Args:
            batch: real text.
            clocks: of this generator.
        """
        with torch.random.fork_rng():
            x, prompt = self.clean(batch), None
            if batch.fixed is not None:
                prompt = Prompt(x, batch.fixed)
                batch = Batch(batch.ids, batch.mask & ~batch.fixed)
            torch.manual_seed(0)
            for clock in clocks:
                read = self.logits if clock.needs_denoiser else self.codec.readout  # guesses hold the prompt
                clock.measure(read, self.path, x, batch, self.denoiser(prompt=prompt))
                times = ", ".join(f"{t:.2f}" for t in clock.grid(8))
                rank_zero_info(f"Measured the clock {type(clock).__name__}: 8 steps fall on {times}")

    def unmeasured(self) -> list[Clock]:
        """The clocks whose law is not known yet."""
        return [m for m in self.modules() if isinstance(m, Clock) and not m.measured]

    def sample_texts(self, n: int) -> list[str]:
        """Texts to look at during training; a grid that follows the denoiser is measured first."""
        if moving := [clock for clock in self.modules() if isinstance(clock, Clock) and clock.needs_denoiser]:
            self.measure(self.real_text(32, held_out=True), moving)
        return shown(self, n)
