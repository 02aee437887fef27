"""Generator: teachers, students and escapes; a net trained by an objective on a codec's latents, and its samples."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from textflow.clocks import Clock, DecodeError, Uniform
from textflow.codecs import Codec
from textflow.escapes import Escape, Soft
from textflow.nets import Denoiser
from textflow.noise import Noise, sample_seeds
from textflow.objectives import Objective
from textflow.paths import Linear, Path
from textflow.readouts import FromNet, Matched, Readout
from textflow.samplers import Euler, Sampler, Trace, sample
from textflow.training import MuonAdam, Trainable, Warmup
from textflow.types import Batch, Denoise, Given, Ids, Latents, Logits, Posterior


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
        optimizer: Callable[[Any], Optimizer] = lambda params: MuonAdam(params, lr=2e-3),
        schedule: Callable[[Optimizer], LRScheduler] = lambda optimizer: Warmup(optimizer, steps=100),
        ema: float = 0.999,
    ) -> None:
        super().__init__(optimizer, schedule, ema)
        self.codec = codec(vocab).requires_grad_(False)
        self.average(net(self.codec.dim, vocab))
        self.objective, self.path, self.own_grid, self.guidance = objective, path, grid, guidance
        self.readout, self.tokens, self.escape, self.sampler = readout, tokens, escape, sampler
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
        with torch.no_grad():
            x = self.codec.encode(batch.ids, batch.mask)
        return self.objective(net, self.path, x, batch)

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
        batch = self.trainer.datamodule.first(128)  # type: ignore[attr-defined]
        self.measure(Batch(*(part.to(self.device) for part in batch)))

    @torch.no_grad()
    def measure(self, batch: Batch) -> None:
        """Measure the clocks that need it, once.

        Args:
            batch: real text.
        """
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for clock in self.unmeasured():
                clock.measure(self.codec.readout, self.path, self.codec.encode(batch.ids, batch.mask), batch)
                times = ", ".join(f"{t:.2f}" for t in clock.grid(8))
                rank_zero_info(f"Measured the clock {type(clock).__name__}: 8 steps fall on {times}")

    def unmeasured(self) -> list[DecodeError]:
        """The clocks whose law is not known yet."""
        return [m for m in self.modules() if isinstance(m, DecodeError) and not m.measured]

    def denoiser(
        self, guidance: float | None = None, escape: Escape | None = None, noise: Noise | None = None
    ) -> Denoise:
        """escape after the averaged net: all that samplers see.

        Args:
            guidance: scale w; default: the recipe's.
            escape: default: none, the bare net.
            noise: the samples' own streams; needed by an escape.
        """
        scale = self.guidance if guidance is None else guidance

        def denoise(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
            time = torch.full((len(z),), t, dtype=z.dtype, device=z.device)
            given = Given(prev=prev, w=torch.full_like(time, scale))
            belief = self.twin(z, time, given)
            if escape is None or noise is None:
                return belief
            return escape(belief, t, lambda: self.read(self.tokens, z, t, belief, given), self.embed, noise)

        return denoise

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
        """
        self.eval()
        noise, times = Noise(seeds), (grid or self.grid).grid(steps)
        z = noise.normal(length or self.length, self.codec.dim).to(self.device)
        z = self.path.mix(torch.zeros_like(z), z, 0.0)
        bare, chosen = self.denoiser(guidance), self.denoiser(guidance, escape or self.escape, noise)
        trace = sample(chosen, sampler or self.sampler, self.path, times, z, noise, last=bare)
        given = Given(w=z.new_full((len(z),), self.guidance if guidance is None else guidance))
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
        if self.tokenizer is None:
            raise ValueError("this generator has no tokenizer: load it with textflow.load(RUN)")
        texts: list[str] = []
        for start in range(0, n, batch_size):
            seeds = sample_seeds(seed, first + start, min(batch_size, n - start))
            made = self.sample(seeds, steps, sampler, guidance, length, escape, grid)
            texts += self.tokenizer.decode(made.ids.tolist())
        return texts

    def sample_texts(self, n: int) -> list[str]:
        """Texts to look at during training."""
        return self.generate(n)
