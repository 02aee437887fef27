"""FastDiSS: plain self-conditioning where it is off, its times, and what self-conditions may tell of the text."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.langflow_nets import tiny_langflow
from textflow.codecs import EmbeddingTable
from textflow.nets import ELF, Denoiser, DiT, LangFlow
from textflow.noise import Noise
from textflow.objectives import CrossEntropy, ELFObjective, FastDiSS, LangFlowObjective, Objective, SelfConditioning
from textflow.objectives.self_conditioning import NoisyText
from textflow.oracle.tasks import chain_task
from textflow.paths import LinearPath, ProbPath, VariancePreserving
from textflow.schedules import Gumbel, Uniform
from textflow.types import Batch, Conditioning, Latents, Times

VOCAB, LENGTH, ROWS = 11, 6, 8
IDS = torch.randint(VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
TEXTS = Batch(IDS, IDS >= 0)
SIZES: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2}


def elf() -> Denoiser:
    return ELF(EmbeddingTable(VOCAB, 8), **SIZES, bottleneck=8)


def dit() -> Denoiser:
    return DiT(EmbeddingTable(VOCAB, 8), **SIZES, cond_width=4)


OBJECTIVES: dict[str, tuple[Callable[..., Objective], Callable[[], Denoiser], ProbPath]] = {
    "ELF": (lambda **parts: ELFObjective(self_cond_prob=1.0, decode_prob=0.0, **parts), elf, LinearPath()),
    "CrossEntropy": (lambda **parts: CrossEntropy(self_cond_prob=1.0, **parts), dit, LinearPath()),
    "LangFlow": (
        lambda **parts: LangFlowObjective(Gumbel(1.0, 1.0, 2.0), 0.5, **parts),
        lambda: tiny_langflow(VOCAB),
        VariancePreserving(-12.0, 3.0),
    ),
}


def step(system: str, batch: Batch = TEXTS, **parts: Any) -> tuple[list[Tensor], list[tuple[Latents, Times, Tensor]]]:
    """Loss and gradients of one step from one random state, and (z, t, self-condition) of each pass."""
    objective, make, path = OBJECTIVES[system]
    torch.manual_seed(0)
    net, passes = make(), list[tuple[Latents, Times, Tensor]]()
    for p in net.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    made, name = objective(**parts), "forward_hidden" if system == "ELF" else "forward"
    plain = getattr(net, name if system != "LangFlow" else "features")

    def recorded(z: Latents, t: Times, cond: Conditioning = Conditioning(), *rest: Any) -> Any:
        passes.append((z.detach(), t, torch.zeros_like(z) if cond.self_cond is None else cond.self_cond))
        return plain(z, t, cond, *rest)

    setattr(net, name if system != "LangFlow" else "features", recorded)
    codec = net.token_codec if isinstance(net, DiT) else EmbeddingTable(VOCAB, 8)
    torch.manual_seed(1)
    loss = made(net, codec, path, batch, 0)["loss"]
    loss.backward()
    return [loss, *(p.grad for p in net.parameters() if p.grad is not None)], passes


@pytest.mark.integration
@pytest.mark.parametrize("system", OBJECTIVES)
def test_both_switches_off_are_plain_self_conditioning_to_the_bit(system: str) -> None:
    default, plain, off = (
        step(system, **parts)[0]
        for parts in ({}, {"self_conditioning": SelfConditioning()}, {"self_conditioning": FastDiSS(0.0, 0.0)})
    )
    assert len(default) > 5 and all(
        torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(default, plain, off, strict=True)
    )
    on = step(system, self_conditioning=FastDiSS(0.3, 0.0))[1]
    assert len(on) == (3 if system == "ELF" else 2)  # ELF's guided target compares predictions at the text's time


@pytest.mark.parametrize("system", OBJECTIVES)
def test_the_self_condition_is_the_prediction_at_a_noisier_time(system: str) -> None:
    path = OBJECTIVES[system][2]
    passes = step(system, self_conditioning=FastDiSS(0.3, 0.0))[1]
    (_, earlier, blank), (_, t, self_cond) = passes[0], passes[-1]
    chosen = self_cond.flatten(1).any(1)  # rows that are conditioned on their own prediction
    lag = (t[chosen] - earlier) / (path.t_max - path.t_min)
    assert not blank.any() and int(chosen.sum()) >= 2
    assert bool((lag >= 0).all() and (lag <= 0.3).all() and (lag > 0).any())
    if system == "ELF":
        assert torch.equal(passes[1][1], t) and torch.equal(passes[1][0], passes[2][0])


def test_tokens_that_are_predicted_well_get_more_noise_and_a_prompt_none() -> None:
    task = chain_task()
    ids = task.sample(Noise(range(32)))
    x = task.codec.encode(ids).double()
    prompt = torch.zeros_like(ids, dtype=torch.bool)
    prompt[:, :3] = True
    text = NoisyText(task.path, x, Noise(range(50, 82)).normal_like(x), Conditioning(prompt=x, prompt_mask=prompt))

    def predict(z: Latents, t: Times, cond: Conditioning) -> Latents:
        return task.exact_posterior(z, t, cond).mean

    t = torch.linspace(0.3, 0.7, 32).double()
    times = FastDiSS(0.0, 0.4).noise_times(predict, text, t)
    share = 1 - times / t[:, None]
    error = (predict(text.at(t), t, text.cond) - x).square().mean(-1)
    torch.testing.assert_close(share[~prompt], 0.4 * (-2 * error[~prompt]).exp(), rtol=1e-4, atol=1e-6)
    assert torch.equal(times[prompt], t[:, None].expand_as(times)[prompt])
    right = predict(text.at(t), t, text.cond) @ task.codec.codes.double().T
    right = (right.argmax(-1) == ids) & ~prompt
    assert float(share[right].mean()) > 0.3 > 0.2 > float(share[~right & ~prompt].mean())


@pytest.mark.parametrize("system", ["CrossEntropy", "LangFlow"])
def test_each_position_is_noised_to_its_own_time(system: str) -> None:
    _, passes = step(system, self_conditioning=FastDiSS(0.2, 0.5))
    assert [t.ndim for _, t, _ in passes] == [1, 2, 2]
    first, last = passes[0][1], passes[-1][1]
    assert bool((last <= first[:, None]).all() and (last < first[:, None]).any())
    prompt = torch.arange(LENGTH)[None].expand(ROWS, -1) < 2
    pairs = step(system, TEXTS._replace(prompt_mask=prompt), self_conditioning=FastDiSS(0.2, 0.5))[1]
    assert all(torch.equal(z[:1, :2], pairs[-1][0][:1, :2]) for z, _, _ in pairs if len(z) == ROWS)  # clean in each


def test_the_self_condition_tells_nothing_of_the_text_that_its_latents_do_not_tell() -> None:
    """Of the exact posterior the error at t is uncorrelated with any function of z_t, and with the prediction from z_t
    under fresh noise; under the noise of z_t both latents give the text away."""
    task = chain_task()
    rows = 256
    x = task.codec.encode(task.sample(Noise(range(rows)))).double()
    text = NoisyText(task.path, x, Noise(range(1000, 1000 + rows)).normal_like(x), Conditioning())
    t = torch.full((rows,), 0.4).double()
    z, exact = text.at(t), task.exact_posterior
    torch.manual_seed(0)
    z_earlier, earlier = FastDiSS(0.3, 0.0).prediction_state(text, z, t)
    error = x - exact(z, t).mean

    def correlation(prediction: Latents) -> float:
        """Mean product with the error, in standard errors over texts."""
        product = (error * prediction).mean((1, 2))
        return float(product.mean() / product.std() * rows**0.5)

    assert bool((earlier < t).any()) and not torch.equal(z, z_earlier)
    assert abs(correlation(exact(z_earlier, earlier).mean)) < 4
    assert abs(correlation(exact(text.at(earlier), earlier).mean)) > 8


@pytest.mark.slow
@pytest.mark.integration
def test_a_net_trained_on_noisier_self_conditions_learns_the_exact_posterior_of_independent_tokens() -> None:
    path, steps, rows = VariancePreserving(-6.0, 3.0), 400, 8192
    torch.manual_seed(0)
    codec = EmbeddingTable(4, 8)
    net = LangFlow(codec, 1, 2, 8, 0.0, width=16)
    for p in net.parameters():
        p.data.add_(0.1 * torch.randn_like(p))  # at first it is exact
    objective = LangFlowObjective(Uniform(-6.0, 3.0), 0.5, ramp_steps=0, self_conditioning=FastDiSS(0.2, 0.0))

    def divergence(t: float) -> float:
        """KL divergence from the posterior to the net with its own self-condition, nats per token."""
        x, times = codec.encode(torch.randint(4, (rows, 4))), torch.full((rows,), t)
        z = path.mix(x, torch.randn_like(x), times)
        alpha, sigma = path.alpha_sigma(t)
        exact = (alpha / sigma**2 * z @ codec.embeddings.T).log_softmax(-1)
        found = net.forward_logits(z, times, Conditioning(self_cond=net(z, times).mean)).log_softmax(-1)
        return float((exact.exp() * (exact - found)).sum(-1).mean())

    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    with torch.no_grad():
        before = max(map(divergence, (-3.0, -1.0, 0.0, 1.0)))
    for _ in range(steps):
        ids = torch.randint(4, (64, 4))
        optimizer.zero_grad()
        objective(net, codec, path, Batch(ids, ids >= 0), 0)["loss"].backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        assert before > 0.02 > 0.005 > max(map(divergence, (-3.0, -1.0, 0.0, 1.0)))


def test_wrong_values_and_an_objective_of_one_time_a_row_are_refused() -> None:
    for wrong in ({"max_lag": -0.1}, {"noise_scaling": 1.0}, {"error_scale": 0.0}):
        with pytest.raises(ValueError, match=r"max_lag in \[0, 1\], noise_scaling in \[0, 1\) and an error_scale"):
            FastDiSS(**wrong)
    with pytest.raises(ValueError, match="ELFObjective has one time per row, but its FastDiSS gives each position one"):
        ELFObjective(self_conditioning=FastDiSS())
