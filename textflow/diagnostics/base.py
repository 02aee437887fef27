"""Diagnostic: a periodic measurement of a model during training, on held-out text with fixed noise."""

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import lightning as L
import torch

from textflow.codecs import Codec, encode_batch
from textflow.codecs.prefix_mask import encoder_mask
from textflow.diagnostics.residual import TerminalPosterior, terminal_posterior
from textflow.models.autoencoder import Autoencoder
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.paths import ProbPath
from textflow.runtime.rank_zero import rank_zero_info
from textflow.samplers.after_blocks import CodecAfterText
from textflow.samplers.prompt import Prompt
from textflow.training import PeriodicCallback
from textflow.training.eval_mode import temporary_eval_mode
from textflow.types import Batch, Denoise, Latents, Logits, Mask, Posterior


class DiagnosticInputs(NamedTuple):
    """Real text and the functions of a model that diagnostics evaluate on it.

    Args:
        x: clean latents.
        mask: True at text outside the prompt.
        path: probability path between noise and text.
        denoise: (z, t, self_cond) -> belief; for a codec alone z_t / alpha(t), the estimate without a prior.
        decode: clean latents -> logits, the final readout.
        decode_positionwise: clean latents -> logits by the codec's readout, position by position; default: `decode`.
        sampling_times: number of steps -> sampling grid.
        token_logits: (z, t, belief) -> logits of p(token | z_t), as an escape receives them; None for a codec.
    """

    x: Latents
    mask: Mask
    path: ProbPath
    denoise: Denoise
    decode: Callable[[Latents], Logits]
    decode_positionwise: Callable[[Latents], Logits]
    sampling_times: Callable[[int], list[float]]
    token_logits: Callable[[Latents, float, Posterior], Logits] | None = None

    def terminal_posterior(self, num_steps: int, noise: Noise) -> TerminalPosterior:
        """The belief at the last interior time of K = `num_steps` >= 2 sampling steps."""
        return terminal_posterior(self.denoise, self.path, self.x, self.mask, self.sampling_times(num_steps)[-2], noise)


def diagnostic_inputs(model: Generator | Autoencoder, batch: Batch) -> DiagnosticInputs:
    """Diagnostic inputs of a teacher, a student or a codec.

    With the order Blockwise (Cola-DLM) each block of noised latents is denoised and read after the text's own clean
    blocks before it, guided as in sampling.

    Args:
        model: generator or autoencoder; its EMA weights are measured.
        batch: real text; in pairs the source is the prompt and the target is measured.
    """
    require_latents(model)
    if isinstance(model, Generator):
        codec, prompt, x = model.codec, prompt_of(model, batch), encode_batch(model.codec, batch)
        decode, mask = model.logits_fn(prompt, x), batch.mask if prompt is None else batch.mask & ~prompt.known
        denoise = model.denoiser(prompt=prompt, text=x)
        positionwise = decode_positionwise(denoise.codec) if codec.has_decoder else decode
        grid = partial(model.sampling_schedule.grid, t_min=model.path.t_min, t_max=model.path.t_max)
        return DiagnosticInputs(x, mask, model.path, denoise, decode, positionwise, grid, denoise.token_logits)
    codec, path = cast(Codec, model.ema_net), model.path
    x, readouts = codec.encode(batch.ids, encoder_mask(batch)), (codec.decode_logits, codec.decode_logits)
    times = model.objective.time_schedule.grid
    return DiagnosticInputs(x, batch.mask, path, channel_denoiser(path), *readouts, times)


def decode_positionwise(codec: Codec) -> Callable[[Latents], Logits]:
    """The codec's readout, position by position."""
    return codec.decode_alone if isinstance(codec, CodecAfterText) else codec.decode_logits


def require_latents(model: object) -> Generator | Autoencoder:
    """Return the model if it has latents; raise an error for one over tokens, which has none to measure."""
    if not isinstance(model, Generator | Autoencoder):
        raise ValueError(f"a {type(model).__name__} has no latents, and diagnostics measure these; leave them out")
    return model


def prompt_of(model: Generator, batch: Batch) -> Prompt | None:
    """Prompt of the rows of pairs; None without a prompt."""
    return None if batch.prompt_mask is None else model.make_prompt(batch.ids, batch.prompt_mask)


def channel_denoiser(path: ProbPath) -> Denoise:
    """Denoiser without a prior: z_t / alpha(t), the text plus scaled noise."""

    def denoise(
        z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
    ) -> Posterior:
        alpha, _ = path.alpha_sigma(t)
        return Posterior(z / alpha if alpha > 0 else torch.zeros_like(z))

    return denoise


class Diagnostic(PeriodicCallback):
    """Callback that measures on one slice of held-out text with one draw of noise, and logs to every logger.

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of held-out rows.
        seed: random seed of the noise.
    """

    def __init__(self, every_n_steps: int = 500, num_rows: int = 64, seed: int = 0) -> None:
        super().__init__(every_n_steps)
        if num_rows < 1:
            raise ValueError(f"{type(self).__name__} got num_rows={num_rows}; it needs at least 1")
        self.num_rows, self.seed = num_rows, seed
        self.eval_seconds, self.start_time = 0.0, time.perf_counter()

    @abstractmethod
    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        """Measured values by log key.

        Args:
            model: model in eval mode; its random draws do not affect training.
            batch: held-out text, the same each time.
            noise: one stream per row, the same each time.
        """

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Load the held-out slice."""
        model = require_latents(module.model)
        super().on_train_start(trainer, module)
        self.batch = model.data_batch(self.num_rows, held_out=True)
        if not len(self.batch.ids):
            raise ValueError(f"{type(self).__name__} measures on held-out text: set data.val_fraction above 0")
        self.eval_seconds, self.start_time = 0.0, time.perf_counter()

    def act(self, trainer: L.Trainer, model: Any) -> None:
        """Measure, and log under the step just completed."""
        start = time.perf_counter()
        with temporary_eval_mode(model):
            values = self.measure(model, self.batch, Noise(sample_seeds(self.seed, 0, len(self.batch.ids))))
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_metrics({name: float(value) for name, value in values.items()}, trainer.global_step - 1)
        self.eval_seconds += time.perf_counter() - start

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Measure at the end of the fit, and report the share of training time spent."""
        super().on_train_end(trainer, module)
        elapsed = time.perf_counter() - self.start_time
        rank_zero_info(
            f"{type(self).__name__} took {self.eval_seconds / max(elapsed, 1e-9):.1%} of the {elapsed:.0f} s trained"
        )
