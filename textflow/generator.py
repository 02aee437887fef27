"""Generator: teachers, students and escapes; a net trained by an objective on a codec's latents, and its samples."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from textflow.clocks import Clock, Uniform
from textflow.codecs import Codec
from textflow.codecs.sight import blank, sight
from textflow.escaped import Escaped
from textflow.escapes import Escape, Soft
from textflow.nets import Denoiser, Frozen
from textflow.noise import Noise
from textflow.objectives import Distill, Objective
from textflow.paths import Linear, Path
from textflow.readouts import FromNet, Matched, Readout
from textflow.samplers import EarlyStop, Euler, Sampler, Trace, sample
from textflow.samplers.prompted import Prompt, prompted
from textflow.training import MuonAdam, Trainable, Warmup
from textflow.training.writing import write
from textflow.types import Batch, Given, Ids, Latents, Logits, Posterior


class Sample(NamedTuple):
    """Token ids, and the way to them."""

    ids: Ids
    trace: Trace


class Generator(Trainable):
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
    ) -> None:
        super().__init__(optimizer, schedule, ema)
        self.codec = codec(vocab).requires_grad_(False)
        self.average(net(self.codec.dim, vocab))
        self.objective, self.path, self.own_grid, self.guidance = objective, path, grid, guidance
        self.readout, self.tokens, self.escape, self.sampler, self.stop = readout, tokens, escape, sampler, stop
        self.drop = drop
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
        self.net.load_state_dict(start.twin.state_dict())
        self.twin.load_state_dict(start.twin.state_dict())
        self.objective.learn_from(teacher.objective, teacher.twin)  # type: ignore[arg-type]
        if isinstance(self.objective, Distill):
            self.objective.average = Frozen(self.twin)

    def on_fit_start(self) -> None:
        """A codec that learns must have learned; a clock that is measured is measured. A dry run needs neither."""
        if not self.codec.ready and self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            for clock in self.unmeasured():
                clock.assume_uniform()
            return
        if not self.codec.ready:
            raise ValueError(
                f"the codec {type(self.codec).__name__} is not trained: name its recipe or its run with --codec"
            )
        self.measure(self.real_text(128), [clock for clock in self.unmeasured() if not clock.needs_denoiser])

    def real_text(self, rows: int, held_out: bool = False) -> Batch:
        """Some of the text of the fit, on the device."""
        batch: Batch = self.trainer.datamodule.first(rows, held_out)  # type: ignore[attr-defined]
        return batch.each(lambda part: part.to(self.device))

    @torch.no_grad()
    def measure(self, batch: Batch, clocks: list[Clock]) -> None:
        """Measure clocks.

        Args:
            batch: real text.
            clocks: of this generator.
        """
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for clock in clocks:
                read = self.logits if clock.needs_denoiser else self.codec.readout
                clock.measure(read, self.path, self.codec.encode(batch.ids, batch.mask), batch, self.denoiser())
                times = ", ".join(f"{t:.2f}" for t in clock.grid(8))
                rank_zero_info(f"Measured the clock {type(clock).__name__}: 8 steps fall on {times}")

    def unmeasured(self) -> list[Clock]:
        """The clocks whose law is not known yet."""
        return [m for m in self.modules() if isinstance(m, Clock) and not m.measured]

    def denoiser(
        self,
        guidance: float | None = None,
        escape: Escape | None = None,
        noise: Noise | None = None,
        prompt: Prompt | None = None,
    ) -> Escaped:
        """escape after the averaged net: all that samplers see.

        Args:
            guidance: scale w; default: the recipe's.
            escape: default: none, the bare net.
            noise: the samples' own streams; needed by an escape.
            prompt: what is given, and how much it guides.
        """
        scale = self.guidance if guidance is None else guidance
        clean, fixed = (None, None) if prompt is None else (prompt.clean, prompt.fixed)
        if prompt is not None and self.stop is not None:
            raise ValueError("an early stop asks about some rows, a prompt is of all of them; leave model.stop out")

        def told(z: Latents, prev: Latents | None = None) -> Given:
            return Given(prev, z.new_full((len(z),), scale), clean=clean, fixed=fixed)

        def bare(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
            return self.twin(z, torch.full((len(z),), t, dtype=z.dtype, device=z.device), told(z, prev))

        def tokens(z: Latents, t: float, belief: Posterior) -> Logits:
            return self.read(self.tokens, z, t, belief, told(z))

        guided = bare if prompt is None else prompted(bare, *prompt)
        return Escaped(guided, tokens, escape, self.embed, noise, self.stop)

    def embed(self, ids: Ids) -> Latents:
        """Clean latents of tokens."""
        return self.codec.encode(ids, torch.ones_like(ids, dtype=torch.bool))

    def read(self, readout: Readout, z: Latents, t: float, belief: Posterior, given: Given) -> Logits:
        """What a readout says of the belief at z_t."""
        return readout(z, t, belief, self.path, self.codec, self.twin, given)

    def logits(self, z: Latents, given: Given | None = None) -> Logits:
        """The readout's logits of final latents.

        Args:
            z: latents.
            given: guidance and prompt; default: the recipe's guidance.
        """
        if given is None:
            given = Given(w=z.new_full((len(z),), self.guidance))
        return self.read(self.readout, z, 1.0, Posterior(z), given)

    def start(self, seeds: list[int], length: int | None = None) -> tuple[Latents, Noise]:
        """Latents at t = 0, and the streams that go on from there.

        Args:
            seeds: one a sample.
            length: latents; default: the length of training.
        """
        noise = Noise(seeds)
        z = noise.normal(length or self.length, self.codec.dim).to(self.device)
        return self.path.mix(torch.zeros_like(z), z, 0.0), noise

    @torch.no_grad()
    def sample(
        self,
        seeds: list[int],
        steps: int = 32,
        sampler: Sampler | None = None,
        guidance: float | None = None,
        length: int | None = None,
        escape: Escape | None = None,
        grid: Clock | None = None,
        prompt: Prompt | None = None,
    ) -> Sample:
        """One sample a seed: ids [B, L] and the trace.

        Args:
            seeds: one a sample.
            steps: of the grid.
            sampler: default: the recipe's.
            guidance: scale w; default: the recipe's.
            length: tokens; default: the length of training.
            escape: default: the recipe's.
            grid: of the times; default: the recipe's.
            prompt: what is given; its latents are as many as the sample's. `answer` cuts the ids after it.
        """
        self.eval()
        (z, noise), times = self.start(seeds, length), (grid or self.grid).grid(steps)
        denoise = self.denoiser(guidance, escape or self.escape, noise, prompt)
        clean, fixed = (None, None) if prompt is None else (prompt.clean, prompt.fixed)
        trace = sample(denoise, sampler or self.sampler, self.path, times, z, noise, clean, fixed, denoise.inner)
        given = Given(
            w=z.new_full((len(z),), self.guidance if guidance is None else guidance), clean=clean, fixed=fixed
        )
        final = trace.beliefs[-1]._replace(mean=trace.z)
        return Sample(self.read(self.readout, trace.states[-1], trace.times[-1], final, given).argmax(-1), trace)

    def generate(
        self,
        n: int = 1,
        steps: int = 32,
        seed: int = 0,
        sampler: Sampler | None = None,
        guidance: float | None = None,
        length: int | None = None,
        batch_size: int = 64,
        first: int = 0,
        escape: Escape | None = None,
        grid: Clock | None = None,
    ) -> list[str]:
        """Texts. Sample i depends on the weights, the sampler, seed and i alone.

        Args:
            n: number of texts.
            steps: of the grid.
            seed: of the run.
            sampler: default: the recipe's.
            guidance: scale w; default: the recipe's.
            length: tokens; default: the length of training.
            batch_size: texts at a time.
            first: number of the first sample.
            escape: default: the recipe's.
            grid: of the times; default: the recipe's.
        """

        def make(seeds: list[int]) -> Ids:
            return self.sample(seeds, steps, sampler, guidance, length, escape, grid).ids

        return write(make, self.tokenizer, n, seed, batch_size, first)

    def sample_texts(self, n: int) -> list[str]:
        """Texts to look at during training; a grid that follows the denoiser is measured first."""
        if moving := [clock for clock in self.modules() if isinstance(clock, Clock) and clock.needs_denoiser]:
            self.measure(self.real_text(32, held_out=True), moving)
        return self.generate(n)
