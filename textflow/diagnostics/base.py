"""Diagnostic: a measure that watches a model while it trains, on held-out text with fixed noise."""

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_info

from textflow.codecs.prefix_mask import sight
from textflow.diagnostics.residual import Terminal, terminal
from textflow.models.autoencoder import Autoencoder
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.paths import Path
from textflow.samplers.prompt import Prompt
from textflow.training import Every
from textflow.training.eval_mode import still
from textflow.types import Batch, Denoise, Latents, Logits, Mask, Posterior


class Look(NamedTuple):
    """Real text as a model sees it.

    Args:
        x: clean latents.
        mask: True where they are text that is not given.
        path: how text becomes noise.
        denoise: (z, t, prev) -> belief; a codec alone believes z_t / alpha(t), the channel without a prior.
        read: clean latents -> logits, the final readout.
        spell: clean latents -> logits by the codec's readout, position by position; `read` where it has none.
        times: grid of sampling by its number of steps.
        tokens: (z, t, belief) -> logits of p(token | z_t), as an escape would ask for them; a codec alone has none.
    """

    x: Latents
    mask: Mask
    path: Path
    denoise: Denoise
    read: Callable[[Latents], Logits]
    spell: Callable[[Latents], Logits]
    times: Callable[[int], list[float]]
    tokens: Callable[[Latents, float, Posterior], Logits] | None = None

    def terminal(self, steps: int, noise: Noise) -> Terminal:
        """The belief at the last time before the text.

        Args:
            steps: of the grid, at least 2.
            noise: one stream a row.
        """
        return terminal(self.denoise, self.path, self.x, self.mask, self.times(steps)[-2], noise)


def look(model: Generator | Autoencoder, batch: Batch) -> Look:
    """What diagnostics need to know of a teacher, a student or a codec.

    Args:
        model: the averaged weights are looked at.
        batch: real text; of pairs the source is given, and the target is looked at.
    """
    if isinstance(model, Generator):
        codec, prompt, x = model.codec, given(model, batch), model.clean(batch)
        read, mask = model.reader(prompt), batch.mask if prompt is None else batch.mask & ~prompt.fixed
        spell = codec.readout if codec.reads else read
        denoise = model.denoiser(prompt=prompt)
        return Look(x, mask, model.path, denoise, read, spell, model.grid.grid, denoise.tokens)
    alone: Any = model.twin
    x = alone.encode(batch.ids, batch.mask if batch.fixed is None else sight(batch.mask, batch.fixed))
    return Look(x, batch.mask, model.path, channel(model.path), alone.readout, alone.readout, model.clock.grid)


def given(model: Generator, batch: Batch) -> Prompt | None:
    """What the rows of pairs begin with; None where nothing is given.

    Args:
        model: trained on such rows.
        batch: real text.
    """
    return None if batch.fixed is None else model.prompt(batch.ids, batch.fixed)


def channel(path: Path) -> Denoise:
    """The belief of who knows no prior: z_t / alpha(t), the text and its noise."""

    def denoise(z: Latents, t: float, prev: Latents | None = None) -> Posterior:
        alpha = float(path.alpha(torch.tensor(t, dtype=torch.float64)))
        return Posterior(z / alpha if alpha > 0 else torch.zeros_like(z))

    return denoise


class Diagnostic(Every):
    """Measures on one slice of held-out text with one draw of noise, and logs to every logger.

    Args:
        every_n_steps: optimizer steps between two measurements; the end of the fit has one too.
        rows: of held-out text.
        seed: of the noise.
    """

    def __init__(self, every_n_steps: int = 500, rows: int = 64, seed: int = 0) -> None:
        super().__init__(every_n_steps)
        if rows < 1:
            raise ValueError(f"{type(self).__name__} got rows={rows}; it needs at least 1")
        self.rows, self.seed = rows, seed
        self.seconds = 0.0
        self.began = time.perf_counter()

    @abstractmethod
    def measure(self, model: Any, batch: Batch, noise: Noise) -> Mapping[str, float]:
        """Numbers by the name of their curve.

        Args:
            model: in eval mode; nothing that it draws moves training.
            batch: held-out text, the same each time.
            noise: one stream a row, the same each time.
        """

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Takes the slice."""
        super().on_train_start(trainer, module)
        self.batch = trainer.datamodule.first(self.rows, held_out=True).each(lambda part: part.to(module.device))
        if not len(self.batch.ids):
            raise ValueError(f"{type(self).__name__} measures on held-out text: set data.validation above 0")
        self.seconds, self.began = 0.0, time.perf_counter()

    def act(self, trainer: Any, module: Any) -> None:
        """Measures and logs under the step just done."""
        start = time.perf_counter()
        with still(module):
            values = self.measure(module, self.batch, Noise(sample_seeds(self.seed, 0, len(self.batch.ids))))
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics({name: float(value) for name, value in values.items()}, trainer.global_step - 1)
        self.seconds += time.perf_counter() - start

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Measures at the end, and says what all of it cost."""
        super().on_train_end(trainer, module)
        spent = time.perf_counter() - self.began
        rank_zero_info(f"{type(self).__name__} took {self.seconds / max(spent, 1e-9):.1%} of the {spent:.0f} s trained")
