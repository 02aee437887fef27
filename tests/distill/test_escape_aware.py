"""Students of a teacher that commits, re-injects noise or shifts its self-condition."""

import pytest
import torch
from torch import Tensor

from tests.helpers.gaussian_clouds import (
    FREE,
    ROWS,
    SELF_COND,
    CloudELF,
    codes,
    embed,
    exact,
    exact_blind,
    output_of,
    start,
    student_of,
)
from tests.helpers.sampling import one_step
from textflow.distill.step import StepDistillation
from textflow.distill.targets import Progressive
from textflow.distill.targets.progressive import invert_step
from textflow.escapes import ConfidenceSchedule, Everywhere, HighConfidence, LowConfidence
from textflow.escapes.logit_adjustment import adjust_logits
from textflow.noise import Noise
from textflow.objectives import ELFObjective
from textflow.objectives.row_indices import row_indices
from textflow.samplers import Reinject
from textflow.types import Conditioning, Latents, Posterior, Times


def x0_target(objective: StepDistillation, z: Latents, times: Tensor) -> Latents:
    net = objective.teacher
    return objective.target_output(net, FREE, z, times, Conditioning(), row_indices(SELF_COND)).x0_target  # type: ignore[arg-type]


def quantile_times(s: Times, u: Times) -> Tensor:
    return Progressive(4, "quantile").times(s, u, ELFObjective().time_schedule)


def test_the_target_of_a_committing_teacher_is_embeddings_and_of_a_plain_one_their_mean() -> None:
    z, s, u = start(1.0)
    gates = [None, Everywhere(), HighConfidence(0.9), LowConfidence(0.0)]
    targets = [x0_target(student_of(commit_gate=gate), z, quantile_times(s, u)) for gate in gates]
    none, every, confident, unsure = (float((torch.cdist(x, codes()).amin(-1) < 1e-9).double().mean()) for x in targets)
    assert (none, every, unsure) == (0, 1, 0) and confident > 0


def test_tokens_are_decoded_at_the_signal_to_noise_ratio_of_training() -> None:
    teacher, z, t = CloudELF(), start()[0], torch.linspace(0.1, 0.9, ROWS).double()
    objective = student_of(teacher, commit_gate=Everywhere())
    objective.teacher_denoiser(FREE)(z, t)
    scale = objective.teacher_objective.decode_noise_scale
    torch.testing.assert_close(teacher.decoded[-1], (scale / (scale * t + 2 * (1 - t)))[:, None, None] * z)


def test_a_teacher_with_logit_adjustment_commits_the_tokens_of_the_escape() -> None:
    teacher, z, t = CloudELF(), start()[0], torch.full((ROWS,), 0.6).double()
    adjusted = student_of(teacher, commit_gate=Everywhere(), logit_adjustment=0.9).teacher_denoiser(FREE)(z, t).mean
    plain = student_of(commit_gate=Everywhere()).teacher_denoiser(FREE)(z, t).mean
    ids = adjust_logits(CloudELF().decode_logits(teacher.decoded[-1], t), 0.9).argmax(-1)
    torch.testing.assert_close(adjusted, embed(ids))
    assert float((adjusted != plain).double().mean()) > 0.01


def test_nothing_commits_in_nearly_pure_noise() -> None:
    objective, z, t = student_of(commit_gate=Everywhere()), start()[0], torch.full((ROWS,), 1e-3).double()
    torch.testing.assert_close(objective.teacher_denoiser(FREE)(z, t).mean, objective.teacher.module(z, t).mean)


def test_wrong_settings_of_a_committing_teacher_are_errors() -> None:
    for wrong in ({"logit_adjustment": 0.3}, {"commit_gate": Everywhere(), "logit_adjustment": 1.0}):
        with pytest.raises(ValueError, match="a commit_gate such as Everywhere"):
            student_of(**wrong)
    with pytest.raises(ValueError, match="use Everywhere or LowConfidence"):
        student_of(commit_gate=ConfidenceSchedule()).teacher_denoiser(FREE)
    objective = student_of(commit_gate=Everywhere())
    objective.embed = None
    with pytest.raises(ValueError, match="a codec that embeds"):
        objective.teacher_denoiser(FREE)


@pytest.mark.parametrize("end", [0.9, 1.0])
def test_a_rollout_with_re_injection_is_the_samplers_but_for_the_noise(
    end: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all noise 0 the folded form is the inversion of the sampler's last state."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(Noise, "normal_like", lambda self, z: torch.zeros_like(z))
    z, s, u = start(end)
    times = quantile_times(s, u)
    x0 = output_of(Progressive(4, gamma=1.5), z, times, exact_blind, self_cond=SELF_COND & False).x0_target

    def denoise(z: Latents, t: float, *_: object) -> Posterior:
        return exact(z, torch.full((1,), t, dtype=torch.float64))

    for i in range(ROWS):
        row = slice(i, i + 1)
        end_z = z[row]
        for t, t_next in zip(times[i, :-1].tolist(), times[i, 1:].tolist(), strict=True):
            end_z = one_step(Reinject(1.5), denoise, FREE, end_z, t, t_next, None, Noise([0]))[0]
        torch.testing.assert_close(x0[row], invert_step(FREE, z[row], end_z, s[row], u[row]), rtol=1e-9, atol=1e-9)


def test_re_injection_draws_fresh_noise_and_without_strength_none() -> None:
    z, s, u = start(0.9)

    def x0(gamma: float, seed: int) -> Latents:
        torch.manual_seed(seed)
        return output_of(Progressive(4, gamma=gamma), z, quantile_times(s, u), exact_blind).x0_target

    assert torch.equal(x0(0.0, 0), x0(0.0, 1))
    assert float((x0(1.5, 0) - x0(1.5, 1)).abs().max()) > 1e-3


def test_a_shifted_self_condition_is_predicted_one_student_step_earlier() -> None:
    z, s, u = start()
    calls: list[Tensor] = []

    def teacher(z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        calls.append(t)
        return exact(z, t, cond)

    times = torch.stack([s, u], 1)
    shifted = output_of(Progressive(1, self_cond_shift=1.0), z, times, teacher)
    torch.testing.assert_close(calls[0], torch.where(SELF_COND, (s - (u - s)).clamp_min(0), s))
    torch.testing.assert_close(calls[1], s[SELF_COND])
    plain = output_of(Progressive(1), z, times)
    for a, b in zip(shifted[:2], plain[:2], strict=True):
        assert torch.equal(torch.isclose(a, b).all(-1).all(-1), ~SELF_COND)
