"""Diagnostics callbacks on held-out text; each wraps the pure functions of one diagnostic."""

from collections.abc import Mapping

from textflow.diagnostics.base import Diagnostic, diagnostic_inputs
from textflow.diagnostics.bootstrap import Ratio
from textflow.diagnostics.dabi import adversarial_x0_pred, dabi
from textflow.diagnostics.decoder_temperature import sweep_decoder
from textflow.diagnostics.facets import nearest_facets
from textflow.diagnostics.residual import channel_blur, stream_seeds
from textflow.diagnostics.rollin import cumulative_flips, rollin_curves, rollin_flips
from textflow.diagnostics.rowspace import estimate_row_space, row_energy_fraction
from textflow.diagnostics.tube import evaluate_tube_law, tube_positions
from textflow.models.autoencoder import Autoencoder
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.samplers import Euler
from textflow.types import Batch


class TerminalDiagnostic(Diagnostic):
    """Base class that measures at the last interior time, or up to it.

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of held-out rows.
        seed: random seed of the noise.
        num_steps: number of sampling steps K >= 2; the measurement is at the last interior time.
    """

    def __init__(self, every_n_steps: int = 500, num_rows: int = 16, seed: int = 0, num_steps: int = 8) -> None:
        super().__init__(every_n_steps, num_rows, seed)
        if num_steps < 2:
            raise ValueError(f"{type(self).__name__} got num_steps={num_steps}; an interior time needs at least 2")
        self.num_steps = num_steps


class DABI(TerminalDiagnostic):
    """dabi/ce and dabi/flip at the last interior time, with the rates whose ratios they are [ours].

    A generator is perturbed along its own residual. A codec alone, whose channel is isotropic, is perturbed by
    the same length along the normal of the nearest decision boundary.

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of held-out rows.
        seed: random seed of the noise.
        num_steps: number of sampling steps K >= 2; the measurement is at the last interior time.
        num_draws: number of random directions per position.
    """

    def __init__(
        self, every_n_steps: int = 500, num_rows: int = 32, seed: int = 0, num_steps: int = 8, num_draws: int = 4
    ) -> None:
        super().__init__(every_n_steps, num_rows, seed, num_steps)
        self.num_draws = num_draws

    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        inputs = diagnostic_inputs(model, batch)
        terminal = inputs.terminal_posterior(self.num_steps, noise)
        x0_pred = terminal.x0_pred
        if isinstance(model, Autoencoder):
            facet = nearest_facets(inputs.decode_positionwise, inputs.x, num_candidates=8)
            x0_pred, _ = adversarial_x0_pred(inputs.x, x0_pred, inputs.mask, facet)
        result = dabi(inputs.decode, inputs.x, x0_pred, inputs.mask, noise, num_draws=self.num_draws)
        return {
            **ratio_metrics("dabi/ce", result.loss),
            **ratio_metrics("dabi/flip", result.flip),
            "dabi/structured_flip_rate": result.flip.numerator,
            "dabi/isotropic": result.flip.denominator,
            "dabi/structured_ce": result.loss.numerator,
            "dabi/isotropic_ce": result.loss.denominator,
        }


class Tube(TerminalDiagnostic):
    """tube/observed and tube/predicted: flip rate of the last prediction, measured and by the tube law.

    The boundaries are those of the codec's readout, which decodes each position separately.

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of held-out rows.
        seed: random seed of the noise.
        num_steps: number of sampling steps K >= 2; the measurement is at the last interior time.
        num_candidates: number of runner-up tokens whose boundaries are tested.
    """

    def __init__(
        self, every_n_steps: int = 500, num_rows: int = 64, seed: int = 0, num_steps: int = 8, num_candidates: int = 8
    ) -> None:
        super().__init__(every_n_steps, num_rows, seed, num_steps)
        self.num_candidates = num_candidates

    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        inputs = diagnostic_inputs(model, batch)
        terminal = inputs.terminal_posterior(self.num_steps, noise)
        facet = nearest_facets(inputs.decode_positionwise, inputs.x, self.num_candidates)
        positions = tube_positions(inputs.decode_positionwise, terminal, inputs.path, facet, noise, num_draws=2)
        blur = channel_blur(inputs.path, terminal.t)
        result = evaluate_tube_law(positions, terminal.t, blur, len(batch.ids), num_draws=2)
        return {
            "tube/observed": result.observed,
            "tube/predicted": result.predicted,
            "tube/surrogate": result.surrogate,
            "tube/blur": result.posterior_blur / max(result.latent_rms, 1e-12),
            "tube/density": result.density.value * result.latent_rms,
        }


class RollIn(TerminalDiagnostic):
    """rollin/terminal and rollin/cumulative: flips of one last step and of a full rollout, both from noised real text.

    rollin/bayes_error is the error rate of the optimal readout at the first time of the rollout. It accounts for most
    of rollin/cumulative.

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of held-out rows.
        seed: random seed of the noise.
        num_steps: number of sampling steps K >= 2.
    """

    def __init__(self, every_n_steps: int = 500, num_rows: int = 32, seed: int = 0, num_steps: int = 8) -> None:
        super().__init__(every_n_steps, num_rows, seed, num_steps)

    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        inputs, seeds = diagnostic_inputs(model, batch), stream_seeds(noise)
        times, tokens = inputs.sampling_times(self.num_steps), inputs.token_logits
        real = (inputs.decode, inputs.path, inputs.x, inputs.mask, times)
        rollin = rollin_flips(inputs.denoise, *real, Noise(seeds), tokens)
        cumulative = cumulative_flips(inputs.denoise, Euler(), *real, Noise(seeds), tokens)
        result = rollin_curves(rollin, cumulative, times)
        rates = {"rollin/terminal": result.rollin[-1].flip_rate, "rollin/cumulative": result.final.flip_rate}
        if tokens is None:
            return rates
        excess = result.rollin[-1].excess_flip_rate
        return rates | {"rollin/bayes_error": result.rollin[0].bayes_error, "rollin/excess": excess}


class RowSpace(TerminalDiagnostic):
    """rowspace/energy_fraction: share of the last residual's energy in the readout's row space;
    rowspace/isotropic: that share for an isotropic residual [ours]."""

    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        terminal = diagnostic_inputs(model, batch).terminal_posterior(self.num_steps, noise)
        few = diagnostic_inputs(model, batch.map(lambda part: part[:8]))
        basis = estimate_row_space(few.decode_positionwise, few.x, few.mask, Noise(stream_seeds(noise)[:8]))
        share = row_energy_fraction(terminal.x, terminal.x0_pred, terminal.mask, basis)
        return {"rowspace/energy_fraction": share, "rowspace/isotropic": len(basis) / terminal.x.shape[-1]}


class DecoderTemperature(TerminalDiagnostic):
    """decoder_temperature/*: dabi/ce of a decoder at temperature 4, and of one mixed half with the uniform law
    [ours].

    Temperature alone changes the loss-based DABI; it leaves every flip, and so the flip-based DABI, unchanged.

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of held-out rows.
        seed: random seed of the noise.
        num_steps: number of sampling steps K >= 2; the measurement is at the last interior time.
        num_draws: number of random directions per position.
    """

    def __init__(
        self, every_n_steps: int = 500, num_rows: int = 16, seed: int = 0, num_steps: int = 8, num_draws: int = 4
    ) -> None:
        super().__init__(every_n_steps, num_rows, seed, num_steps)
        self.num_draws = num_draws

    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        inputs = diagnostic_inputs(model, batch)
        terminal = inputs.terminal_posterior(self.num_steps, noise)
        probes = sweep_decoder(
            inputs.decode, inputs.x, terminal.x0_pred, inputs.mask, noise, (1.0, 4.0), (0.5,), num_draws=self.num_draws
        )
        by_name = dict(zip(("unchanged", "hot", "uniform_mix"), (probe.dabi for probe in probes), strict=True))
        rates = {f"decoder_temperature/flips_{name}": result.flip.numerator for name, result in by_name.items()}
        for name, result in by_name.items():
            rates |= ratio_metrics(f"decoder_temperature/ce_{name}", result.loss)
        return rates


def ratio_metrics(name: str, ratio: Ratio) -> dict[str, float]:
    """The ratio under `name`, or its lower bound under `name_at_least`."""
    return {name: ratio.value} if ratio.has_value else {f"{name}_at_least": ratio.low}
