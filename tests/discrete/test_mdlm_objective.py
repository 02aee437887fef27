"""MDLM's network, objective and schedule against tensors of the published code. Its t is our 1 - t."""

import math
from typing import Any

import pytest
import torch

from tests.helpers.mdlm_nets import published, published_objective
from tests.helpers.recordings import error, part, recorded
from textflow.convert.dit_layout import map_name
from textflow.discrete import Absorbing, DuoObjective, MDLMObjective, TokenDiT
from textflow.discrete.mdlm import MaskDraws
from textflow.types import Batch


@pytest.fixture(scope="module")
def step() -> dict[str, Any]:
    net, data, config = published()
    objective = published_objective(config)
    batch = Batch(data["x0"], data["attention_mask"] > 0)
    draws = MaskDraws(objective.sample_times(data["draw.t_uniform"].double()), data["draw.mask_uniform"])
    return {"net": net, "data": data, "objective": objective, "batch": batch, "draws": draws}


@pytest.mark.parity
def test_the_schedule_is_the_published_one() -> None:
    data, meta = recorded("mdlm")
    schedule = published_objective(meta["config"]).process
    t = 1 - data["noise.t"].double()
    assert error(schedule.sigma(t).float(), data["noise.sigma"]) < 1e-5
    early = t > 0
    assert error(schedule.rate(t[early]).float(), data["noise.dsigma"][early]) < 1e-6
    assert error(schedule.rate(t).float(), data["noise.dsigma"]) < 2e-5  # 1 - .999 in float32, at the very end
    torch.testing.assert_close(schedule.survival(t), (-schedule.sigma(t)).exp())
    inner = t[t < 1]
    torch.testing.assert_close(schedule.elbo_weight(inner), schedule.rate(inner) / schedule.sigma(inner).expm1())


@pytest.mark.parity
def test_times_and_masks_are_the_published_ones(step: dict[str, Any]) -> None:
    data, draws, schedule = step["data"], step["draws"], step["objective"].process
    assert error((1 - draws.t).float(), data["t"]) < 1e-6
    assert error((1 - schedule.survival(draws.t)).float(), data["move_chance"]) < 1e-6
    assert error(schedule.sigma(draws.t).float(), data["sigma"]) < 1e-5  # float32 rounds 1 - t near the masks
    mask = int(data["mask_index"])
    assert mask == step["net"].vocab_size - 1
    masks = schedule.stationary(data["x0"], mask + 1)
    assert torch.equal(schedule.corrupt(data["x0"], masks, draws.uniform, draws.t), data["xt"])


@pytest.mark.parity
def test_logits_and_log_probabilities_are_the_published_ones(step: dict[str, Any]) -> None:
    net, data = step["net"], step["data"]
    sigma = step["objective"].network_sigma(step["draws"].t)
    if step["objective"].time_conditioning:  # ours is float64, theirs float32
        assert error(sigma.float(), data["sigma_in"]) < 1e-5
    else:
        assert torch.equal(sigma.float(), data["sigma_in"])
    logits = net.lm_logits(net(data["xt"], sigma))
    assert error(logits, data["logits"]) < 1e-5
    log_p, theirs = step["objective"].log_probs(logits, data["xt"]), data["log_p"]
    finite = theirs > -1e5  # minus a million stands for log 0
    assert error(log_p[finite], theirs[finite]) < 1e-5
    masked = int((data["xt"] == net.vocab_size - 1).sum())
    zeros = masked + (data["xt"].numel() - masked) * (net.vocab_size - 1)  # the mask, and all but an unmasked token
    assert bool((log_p[~finite] == -torch.inf).all()) and int((~finite).sum()) == zeros
    assert error(log_p.gather(-1, data["x0"][..., None])[..., 0], data["log_p_x0"]) < 1e-5


@pytest.mark.parity
def test_loss_and_gradients_are_the_published_ones(step: dict[str, Any]) -> None:
    net, data = step["net"], step["data"]
    net.zero_grad()
    losses = step["objective"].loss(net, step["batch"], step["draws"])
    assert error(losses["loss"], data["loss"]) < 1e-5
    losses["loss"].backward()
    ours = dict(net.named_parameters())
    for name, grad in part(data, "grad.").items():
        assert error(ours[f"backbone.{map_name(name)}"].grad, grad) < 1e-5, name


@pytest.mark.parity
def test_the_cross_entropy_is_that_of_masked_text_alone(step: dict[str, Any]) -> None:
    data = step["data"]
    masked = (data["xt"] == int(data["mask_index"])) & (data["attention_mask"] > 0)
    losses = step["objective"].loss(step["net"], step["batch"], step["draws"])
    assert error(losses["masked_ce"], -data["log_p_x0"][masked].mean()) < 1e-5


def test_a_batch_without_masks_has_loss_zero_and_a_gradient(step: dict[str, Any]) -> None:
    draws = step["draws"]._replace(uniform=torch.ones_like(step["draws"].uniform))
    losses = step["objective"].loss(step["net"], step["batch"], draws)
    assert losses["loss"] == 0 and losses["loss"].requires_grad


def test_the_loss_bounds_the_likelihood_of_a_model_of_the_true_law() -> None:
    """Independent tokens of a known law: the bound is tight, E[loss] = the entropy of the law."""

    class KnownDistribution(TokenDiT):
        def forward(self, ids: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*ids.shape, 1)

        def lm_logits(self, hidden: torch.Tensor) -> torch.Tensor:
            return torch.cat([law.log(), torch.zeros(1)]).expand(*hidden.shape[:-1], 4).clone()

    law = torch.tensor([0.7, 0.2, 0.1])
    torch.manual_seed(0)
    ids = torch.multinomial(law, 400 * 200, replacement=True).view(400, 200)
    batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool))
    bound = MDLMObjective()(KnownDistribution(4, 8, 1, 2, 4), batch, 0)["loss"]
    entropy = float(torch.special.entr(law).sum())
    assert math.isclose(float(bound), entropy * 0.999, rel_tol=0.02)


def test_times_spread_evenly_have_one_in_each_part() -> None:
    t = MDLMObjective().sample_times(torch.rand(8, dtype=torch.float64))
    places = ((1 - t - 1e-3) / 0.999 * 8).floor().sort().values
    assert torch.equal(places, torch.arange(8.0).double())
    alone = MDLMObjective(antithetic_sampling=False).sample_times(torch.tensor([0.0, 0.5]).double())
    torch.testing.assert_close(alone, torch.tensor([0.999, 0.4995]).double())


def test_the_network_is_conditioned_on_sigma_where_asked() -> None:
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert (
        torch.equal(MDLMObjective(time_conditioning=True).network_sigma(t), Absorbing().sigma(t))
        and not MDLMObjective().network_sigma(t).any()
    )
    with pytest.raises(ValueError, match="above 0 and below 1"):
        MDLMObjective(sampling_eps=0.0)


def test_the_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        net = TokenDiT(50_258)
    assert sum(p.numel() for p in net.parameters()) == 169_627_218


@pytest.mark.parametrize("make", [MDLMObjective, DuoObjective])
def test_padding_counts_where_it_is_asked_for(make: Any) -> None:
    ids, mask = torch.zeros(2, 5, dtype=torch.long), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    for counts, expected in ((False, 7), (True, 10)):
        objective = make(loss_on_padding=counts)
        net = TokenDiT(objective.process.num_states(6), 8, 1, 1, 4)
        losses = objective(net, Batch(ids, mask), 0)
        assert losses["tokens"] == expected and losses["loss"].isfinite()
