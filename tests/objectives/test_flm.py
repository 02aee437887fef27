"""FLM's objective in the space of its table: tensors of the published code, the law of its noise, its memory."""

from typing import Any

import pytest
import torch

from tests.helpers.flm_nets import decode_error_schedule, dit
from tests.helpers.recordings import error, part, recorded
from textflow.codecs import EmbeddingTable, OneHot
from textflow.convert.dit_layout import map_name
from textflow.nets import DiT
from textflow.objectives import FLMObjective
from textflow.objectives.base import Draws
from textflow.objectives.flm import covariance_factor, table_noise
from textflow.paths import LinearPath
from textflow.reference.flm import reference_flm_loss
from textflow.schedules import OneHotDecodeError
from textflow.types import Batch

PATH = LinearPath(1.0, 0.0, 1e-5)
SIZES: dict[str, Any] = {"width": 8, "depth": 1, "heads": 2, "cond_width": 4}


def recorded_step() -> tuple[dict[str, torch.Tensor], DiT, Batch]:
    data, meta = recorded("flm")
    own = part(data, "flm.")
    net = dit(part(own, "weights."), time_schedule=decode_error_schedule(meta["config"]))
    return own, net, Batch(data["ids"], data["valid"] > 0)


def small_net(vocab: int = 23, seed: int = 0, **options: Any) -> DiT:
    torch.manual_seed(seed)
    net = DiT(OneHot(vocab), **SIZES, **options)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net


def small_batch(vocab: int = 23) -> Batch:
    ids = torch.randint(vocab, (4, 6), generator=torch.Generator().manual_seed(1))
    return Batch(ids, torch.arange(24).view(4, 6) % 5 > 0)


@pytest.mark.parity
def test_times_are_the_published_ones() -> None:
    own, _, _ = recorded_step()
    count = len(own["draw.uniform"])
    shares = (own["draw.uniform"].double() / count + torch.arange(count) / count) % 1
    torch.testing.assert_close(shares[own["draw.perm"]].float(), own["tau"], rtol=1e-5, atol=1e-6)
    schedule = decode_error_schedule(recorded("flm")[1]["config"])
    torch.testing.assert_close(schedule.icdf(own["tau"].double()).float(), own["t"], rtol=0, atol=2e-6)


@pytest.mark.parity
def test_loss_and_gradients_are_the_published_ones() -> None:
    own, net, batch = recorded_step()
    draws = Draws(own["t"], own["draw.eps"] @ net.embed)
    losses = FLMObjective().loss(net, PATH, batch, draws)
    assert error(losses["loss"], own["loss"]) < 1e-5
    expected = part(own, "grad.")
    found = torch.autograd.grad(losses["loss"], [net.get_parameter(map_name(name)) for name in expected])
    for grad, (name, recorded_grad) in zip(found, expected.items(), strict=True):
        assert error(grad, recorded_grad) < 2e-4, name


@pytest.mark.parity
def test_the_plain_form_is_the_published_one() -> None:
    own, net, batch = recorded_step()
    assert error(reference_flm_loss(net, batch, own["t"], own["draw.eps"])["loss"], own["loss"]) < 1e-5
    x = OneHot(net.vocab_size).encode(batch.ids)
    assert error(PATH.mix(x, own["draw.eps"], own["t"]), own["x_t"]) < 1e-6
    logp = net(own["x_t"], own["t"]).logits
    assert logp is not None and error(logp, own["logp"]) < 1e-5
    assert error(-logp.gather(-1, batch.ids[..., None])[..., 0], own["loss_per_token"]) < 1e-5


@pytest.mark.parametrize("cap", [None, 3.0])
def test_with_given_noise_it_is_the_plain_form(cap: float | None) -> None:
    net, batch = small_net(logit_softcap=cap), small_batch()
    t, eps = torch.rand(4), torch.randn(4, 6, 23)
    found, expected = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))] + [loss.detach()[None]])
        for loss in (
            FLMObjective().loss(net, PATH, batch, Draws(t, eps @ net.embed))["loss"],
            reference_flm_loss(net, batch, t, eps)["loss"],
        )
    ]
    assert error(found, expected) < 1e-5


@pytest.mark.parametrize("vocab", [5, 23])
def test_its_noise_has_the_law_of_one_hot_noise_times_the_table(vocab: int) -> None:
    table = torch.randn(vocab, 8, generator=torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    noise = table_noise(table, 500, 400).flatten(0, 1)
    expected = table.T @ table
    assert float(noise.mean(0).abs().max()) < 0.03 * float(expected.diagonal().max()) ** 0.5
    assert error(noise.T @ noise / len(noise), expected) < 0.02
    kurtosis = (noise**4).mean(0) / (noise**2).mean(0) ** 2
    torch.testing.assert_close(kurtosis, torch.full((8,), 3.0), rtol=0.05, atol=0)


def test_its_expected_gradient_is_that_of_one_hot_noise() -> None:
    table = torch.randn(23, 4, generator=torch.Generator().manual_seed(3), requires_grad=True)
    target = torch.randn(4, 4, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(0)

    def gradient(noise: torch.Tensor) -> torch.Tensor:
        loss = ((noise @ target) * noise).sum(-1).mean()  # E is trace(target E^T E)
        return torch.autograd.grad(loss, table)[0]

    exact = (table @ (target + target.T)).detach()
    assert error(gradient(table_noise(table, 300, 200)), exact) < 0.05
    assert error(gradient(torch.randn(300, 200, 23) @ table), exact) < 0.05


def test_a_table_of_less_rank_has_a_factor() -> None:
    table = torch.randn(23, 1) @ torch.randn(1, 8)
    factor = covariance_factor(table)
    assert error(factor.T @ factor, table.T @ table) < 1e-4


def test_times_are_stratified_over_the_decode_error() -> None:
    torch.manual_seed(0)
    schedule = OneHotDecodeError(23, 4097)
    t = FLMObjective(schedule).sample_draws(torch.zeros(64, 1, 23)).t
    shares = torch.searchsorted(schedule.icdf(torch.arange(1, 64, dtype=torch.float64) / 64), t.double())
    assert shares.sort().values.tolist() == list(range(64)) and shares.tolist() != list(range(64))


def test_a_prompt_is_clean_and_has_no_loss() -> None:
    net, batch = small_net(), small_batch()
    prompt = torch.arange(6).expand(4, 6) < 2
    batch = batch._replace(prompt_mask=prompt, mask=torch.ones_like(prompt))
    noise = torch.randn(4, 6, 8)
    first = FLMObjective().loss(net, PATH, batch, Draws(torch.rand(4), noise))
    assert int(first["tokens"]) == 16
    t = torch.rand(4)
    one, other = (
        FLMObjective().loss(net, PATH, batch, Draws(t, torch.where(prompt[..., None], eps, noise)))["loss"]
        for eps in (noise, 5 * noise)
    )
    assert torch.equal(one, other)


def test_latents_that_are_no_tokens_are_refused() -> None:
    net = DiT(EmbeddingTable(7, 8), **SIZES)
    with pytest.raises(ValueError, match="DiT on the codec OneHot, not DiT on EmbeddingTable: use the objective Cross"):
        FLMObjective()(net, EmbeddingTable(7, 8), PATH, small_batch(), 0)
