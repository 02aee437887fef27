"""Duo: what its network reads, its sampler, and its discrete consistency distillation."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.recordings import error
from textflow.discrete import (
    DiscreteConsistency,
    DuoObjective,
    DuoSampler,
    MDLMObjective,
    TokenDenoiseFn,
    TokenDiT,
    denoiser,
)
from textflow.layers.chunked_loss import linear_loss
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.text_format import TextFormat
from textflow.noise import Noise
from textflow.reference.duo import reference_duo_loss
from textflow.types import Batch

V, L = 7, 10


def model(objective: Any = None) -> DiscreteDiffusion:
    torch.manual_seed(0)
    made = DiscreteDiffusion(
        V,
        lambda states: TokenDiT(states, 16, depth=1, heads=2, cond_width=8, dropout=0.0),
        objective or DuoObjective(curriculum_steps=5),
        DuoSampler(),
    )
    for net in (made.net, made.ema_net):
        torch.manual_seed(1)
        for p in net.parameters():
            p.data.add_(0.3 * torch.randn_like(p))
    made.text_format = TextFormat(seq_length=L)
    return made


def test_the_network_reads_a_softmax_during_the_curriculum_and_tokens_afterwards() -> None:
    inputs: list[Tensor] = []
    made = model()
    made.net.register_forward_pre_hook(lambda net, args: inputs.append(args[0]))
    batch = Batch(torch.arange(L).remainder(V).repeat(4, 1), torch.ones(4, L, dtype=torch.bool))
    prompts = batch._replace(prompt_mask=torch.arange(L)[None].expand(4, -1) < 3)
    for step in (5, 6):
        losses = made.objective(made.net, prompts, step)
        assert losses["loss"].isfinite() and int(losses["tokens"]) == 4 * (L - 3)
    soft, hard = inputs
    assert soft.shape == (4, L, V) and torch.equal(soft.argmax(-1)[:, :3], batch.ids[:, :3])
    assert hard.shape == (4, L) and torch.equal(hard[:, :3], batch.ids[:, :3])


@pytest.mark.parametrize("step", [5, 6], ids=["curriculum", "tokens"])
def test_the_bound_of_some_positions_at_a_time_is_that_of_all(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    made = model()
    ids = torch.randint(V, (4, L), generator=torch.Generator().manual_seed(0))
    prompt = torch.arange(L)[None].expand(4, -1) < 3
    batch = Batch(ids, torch.arange(L)[None] < torch.tensor([[L], [8], [5], [L]]), prompt)
    sizes: list[int] = []

    def chunked(h: Tensor, weight: Tensor, bias: Tensor, loss: Any) -> Tensor:
        def count(logits: Tensor, at: slice) -> Tensor:
            sizes.append(len(logits))
            return loss(logits, at)

        return linear_loss(h, weight, bias, count, 6 * V)

    monkeypatch.setattr(denoiser, "linear_loss", chunked)
    results = []
    for form in (made.objective.loss, partial(reference_duo_loss, made.objective)):
        torch.manual_seed(1)
        made.objective.loss = form  # the same draws
        made.net.zero_grad()
        losses = made.objective(made.net, batch, step)
        losses["loss"].backward()
        results.append((losses, {name: p.grad for name, p in made.net.named_parameters() if p.grad is not None}))
    (ours, gradients), (plain, expected) = results
    assert int(ours["tokens"]) == sum(sizes) == int(plain["tokens"])
    torch.testing.assert_close(ours["loss"], plain["loss"], rtol=1e-5, atol=0)
    assert gradients.keys() == expected.keys() and len(expected) > 8
    for name, gradient in expected.items():
        assert error(gradients[name], gradient) < 1e-5, name
    with torch.no_grad():
        assert made.objective(made.net, batch, step)["loss"].isfinite()


@pytest.mark.parametrize(
    "sampler", [DuoSampler(), DuoSampler(tail="greedy"), DuoSampler(categorical="gumbel")], ids=str
)
def test_a_batch_gives_the_samples_one_by_one(sampler: DuoSampler) -> None:
    made, seeds = model(), [4, 9, 4]
    together = made.sample(seeds, 4, sampler)
    assert torch.equal(together, torch.cat([made.sample([seed], 4, sampler) for seed in seeds]))
    assert torch.equal(together[0], together[2])
    assert sampler.tail == "greedy" or not torch.equal(together[0], together[1])
    ids = torch.arange(L).remainder(V).repeat(3, 1)
    prompt = torch.arange(L)[None].expand(3, -1) % 2 == 0
    assert torch.equal(made.complete(ids, prompt, seeds, 4, sampler)[prompt], ids[prompt])


@pytest.mark.integration
def test_samples_of_the_true_law_have_its_frequencies() -> None:
    law = torch.tensor([0.6, 0.3, 0.1])

    class KnownLaw(TokenDiT):
        def lm_logits(self, hidden: Tensor) -> Tensor:
            return law.log().expand(*hidden.shape[:-1], 3)

    objective = DuoObjective()
    denoise = TokenDenoiseFn(KnownLaw(3, 8, 1, 2, 4), objective.network_sigma, objective.process, True)
    noise = Noise(range(40))
    start = objective.process.stationary(torch.zeros(40, 500, dtype=torch.long), 3, noise)
    ids = DuoSampler().sample(denoise, start, [i / 8 for i in range(9)], noise)
    share = torch.bincount(ids.flatten(), minlength=3) / ids.numel()
    assert bool(((share - law).abs() < 4 * (law * (1 - law) / ids.numel()).sqrt()).all()), share


def test_a_student_equal_to_its_teacher_loses_only_what_the_step_costs() -> None:
    teacher = model()
    student = model(DiscreteConsistency(DuoObjective(), steps=4))
    student.learn_from(teacher, teacher)
    batch = Batch(torch.arange(L).remainder(V).repeat(8, 1), torch.ones(8, L, dtype=torch.bool))
    eps, t = torch.randn(8, L, V, generator=torch.Generator().manual_seed(0)), torch.rand(8).double() * 0.7
    objective = student.objective
    assert isinstance(objective, DiscreteConsistency)
    apart = objective.loss(student.net, batch, t, eps)["loss"].detach()
    objective.steps = 10**9
    together = objective.loss(student.net, batch, t, eps)["loss"].detach()
    assert float(apart) > 0 and abs(float(together)) < 1e-5
    assert all(not p.requires_grad for p in teacher.ema_net.parameters())
    with pytest.raises(ValueError, match="MDLMObjective"):
        objective.set_teacher(MDLMObjective(), teacher.ema_net)
    with pytest.raises(ValueError, match="textflow distill"):
        DiscreteConsistency()(student.net, batch, 0)


@pytest.mark.integration
def test_a_student_nears_its_teacher() -> None:
    teacher = model()
    student = model(DiscreteConsistency(DuoObjective(), steps=4))
    student.learn_from(teacher, teacher)
    optimizer = torch.optim.Adam(student.net.parameters(), lr=1e-2)
    batch = Batch(torch.randint(V, (16, L), generator=torch.Generator().manual_seed(0)), torch.ones(16, L) > 0)
    torch.manual_seed(0)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        loss = student.objective(student.net, batch, step)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10]), losses


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: DuoObjective(gamma_min=1.0, gamma_max=0.0), "gamma_min"),
        (lambda: DuoObjective(temperature=0.0), "temperature"),
        (lambda: DiscreteConsistency(steps=1), "at least 2 steps"),
        (lambda: DuoSampler(temperature=0.0), "temperature above 0"),
        (lambda: MDLMObjective().set_teacher(MDLMObjective(), TokenDiT(3, 8, 1, 2, 4)), "learns from data"),
    ],
)
def test_wrong_settings_are_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_the_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        net = TokenDiT(50_258)
    assert sum(p.numel() for p in net.parameters()) == 169_627_218
