"""Students of the last step to the text: the posterior mean as their target, and the law of their flips."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.small_students import PATH, Student, fit, make_posterior, no_rows, sample_latents, state
from textflow.diagnostics.facets import nearest_facets
from textflow.diagnostics.residual import TerminalPosterior, channel_blur
from textflow.diagnostics.tube import evaluate_tube_law, tube_positions
from textflow.distill.targets import Progressive
from textflow.distill.targets.base import TargetInput
from textflow.noise import Noise
from textflow.schedules import Uniform
from textflow.types import Conditioning, Latents, Posterior


def last_step(start: float) -> dict[str, Any]:
    """Student of the step from `start` to the text, with a teacher of 4 substeps; the codes' clouds overlap."""
    law, target = make_posterior(32, 4, tau=1.0), Progressive(4, "quantile")
    student, rows = Student(4, 96), 256

    def sample_targets(rows: int, seed: int) -> tuple[Latents, Latents, Latents]:
        s = torch.full((rows,), start).double()
        x, z = sample_latents(law, rows, seed), state(s, seed, law)
        times = target.times(s, torch.ones_like(s), Uniform())
        return x, z, target(TargetInput(law, law, PATH, z, times, Conditioning(), no_rows(rows))).x0_target

    def sample_batch(step: int) -> tuple[Latents, Latents]:
        _, z, target_mean = sample_targets(rows, 2 * step)
        return student(z, torch.full((rows,), start).double()).mean, target_mean

    fit(student, sample_batch, 175, lr=1.2e-2)
    x, z, target_mean = sample_targets(8000, 10**6)
    with torch.no_grad():
        prediction = student(z, torch.full((len(z),), start).double()).mean
    return {"law": law, "x": x, "z": z, "target_mean": target_mean, "prediction": prediction}


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.mark.integration  # fits a student
def test_a_one_step_student_is_the_terminal_posterior_mean() -> None:
    """Its target is the last prediction of the teacher's rollout; its error is small relative to the teacher's."""
    result = last_step(0.7)
    law, z, target_mean = result["law"], result["z"], result["target_mean"]
    times = Progressive(4, "quantile").times(torch.tensor([0.7]).double(), torch.ones(1).double(), Uniform())[0]
    for t, u in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        belief = law(z, torch.full((len(z),), t).double()).mean
        z = PATH.step(z, belief, t, u)
    torch.testing.assert_close(belief, target_mean, rtol=1e-6, atol=1e-6)
    assert rms(result["prediction"] - target_mean) < 0.1 * rms(target_mean - result["x"])  # measured: .026 of .744


@pytest.mark.integration  # fits a student
@pytest.mark.slow
def test_the_flips_of_a_one_step_student_follow_the_tube_law() -> None:
    """Where the blur is small beside the margins: .103 measured, .115 by the law."""
    result = last_step(0.95)
    law, x = result["law"], result["x"]
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    terminal = TerminalPosterior(x, result["z"], Posterior(result["prediction"]), mask, 0.95)
    facet = nearest_facets(law.codec.decode_logits, x, 31)
    positions = tube_positions(law.codec.decode_logits, terminal, PATH, facet, Noise(range(len(x))), num_draws=1)
    measured = evaluate_tube_law(positions, 0.95, channel_blur(PATH, 0.95), len(x), num_draws=1)
    assert measured.observed == pytest.approx(measured.predicted, rel=0.15) and measured.observed > 0.05
