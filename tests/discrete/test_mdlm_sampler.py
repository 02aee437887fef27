"""Ancestral sampling of masked diffusion: published ids, and the law of the draws."""

import math
from typing import Any

import pytest
import torch

from tests.discrete.test_mdlm_objective import published
from tests.helpers.recordings import error, recorded
from textflow.discrete.objective import MDLMObjective
from textflow.discrete.sampler import MDLMSampler, reverse_transition
from textflow.models.autoregressive import Autoregressive
from textflow.noise import Noise
from textflow.samplers.categorical import sample_by_gumbel, sample_by_inversion


class Replayed(Noise):
    """Recorded uniform numbers in place of streams."""

    def __init__(self, draws: torch.Tensor) -> None:
        self.left = list(draws.double())

    def uniform(self, *shape: int) -> torch.Tensor:
        return self.left.pop(0)


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    net, data, config = published()
    timed = config["time_conditioning"]
    objective = MDLMObjective(time_conditioning=timed)

    def see(ids: torch.Tensor, t: float) -> torch.Tensor:
        asked.append(len(ids))
        with torch.no_grad():
            return net(ids, objective.network_sigma(torch.full((len(ids),), t, dtype=torch.float64)))

    asked: list[int] = []
    read = net.requires_grad_(False).lm_logits
    return {"data": data, "mask": net.mask_id, "see": see, "read": read, "asked": asked, "timed": timed}


@pytest.mark.parity
@pytest.mark.parametrize(("form", "floor"), [("ddpm", 1e-3), ("cache", 0.0)])
def test_one_step_is_the_published_one(model: dict[str, Any], form: str, floor: float) -> None:
    data, mask, ids = model["data"], model["mask"], model["data"]["step.x"]
    t, dt = float(data["step.t"][0]), float(data["step.dt"])
    states, masked = model["see"](ids, 1 - t), ids == model["mask"]
    law = reverse_transition(model["read"](states[masked]), (1 - floor) * t, (1 - floor) * (t - dt))
    assert error(law.float(), data[f"step.{form}.q"][masked]) < 1e-5
    noise = Replayed(data[f"step.{form}.uniform"][None])
    found = MDLMSampler(categorical="gumbel").step(states, model["read"], ids, mask, 1 - t, 1 - t + dt, noise)
    assert torch.equal(found, data[f"step.{form}.x_next"])


@pytest.mark.parity
@pytest.mark.parametrize("steps", recorded("mdlm")[1]["config"]["steps"])
def test_samples_are_the_published_ones_and_are_asked_for_as_often(model: dict[str, Any], steps: int) -> None:
    data, mask, key = model["data"], model["mask"], f"sample.{steps}"
    met: list[torch.Tensor] = []

    class Watched(MDLMSampler):
        def step(self, *all: Any) -> Any:
            after = super().step(*all)
            met.append(after)
            return after

    start = torch.full_like(data[f"{key}.ids"], mask)
    times = [i / steps for i in range(steps + 1)]
    model["asked"].clear()
    found = Watched(categorical="gumbel").sample(
        model["see"], model["read"], start, mask, times, Replayed(data[f"{key}.uniform"]), model["timed"]
    )
    assert torch.equal(torch.stack(met), data[f"{key}.x"])
    assert torch.equal(found, data[f"{key}.ids"])
    pairs = zip([start, *met], met, strict=False)
    changed = [((a != b).any(1) & (b == mask).any(1)).sum() for a, b in pairs]
    if model["timed"]:
        changed = [(b == mask).any(1).sum() for b in met]  # all that is not done is asked about again
    assert sum(model["asked"]) == len(start) + int(sum(changed)), "a row is asked about again where a token has changed"
    fresh = steps - int(data[f"{key}.cached"].sum())  # the published cache is of the whole batch, and asks to the end
    assert len(model["asked"]) <= fresh + 1


def test_a_timed_network_is_asked_every_time(model: dict[str, Any]) -> None:
    start = torch.full((2, 10), model["mask"])
    model["asked"].clear()
    times = [i / 20 for i in range(21)]
    MDLMSampler().sample(
        model["see"], model["read"], start, model["mask"], times, Noise([1, 2]), time_conditioning=True
    )
    assert model["asked"][:10] == [2] * 10 and len(model["asked"]) > 15


@pytest.mark.parametrize("draws", ["inversion", "gumbel"])
def test_a_batch_gives_the_samples_one_by_one(model: dict[str, Any], draws: Any) -> None:
    seeds, times, sampler = [3, 9, 3], [0.0, 0.3, 0.7, 1.0], MDLMSampler(categorical=draws)

    def made(some: list[int]) -> torch.Tensor:
        start = torch.full((len(some), 10), model["mask"])
        return sampler.sample(model["see"], model["read"], start, model["mask"], times, Noise(some))

    together = made(seeds)
    assert torch.equal(together, torch.cat([made([seed]) for seed in seeds]))
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])
    assert not (together == model["mask"]).any()


def test_a_prompt_stays(model: dict[str, Any]) -> None:
    start = torch.full((2, 10), model["mask"])
    last = model["mask"] - 1
    start[:, 2:5] = torch.tensor([[1, 2, 3], [last, last - 1, last - 2]])
    found = MDLMSampler().sample(model["see"], model["read"], start, model["mask"], [0.0, 0.5, 1.0], Noise([1, 2]))
    assert torch.equal(found[:, 2:5], start[:, 2:5])


@pytest.mark.parametrize("draws", ["inversion", "gumbel"])
def test_masks_turn_as_often_as_the_times_say_and_into_tokens_by_their_law(draws: Any) -> None:
    law, mask = torch.tensor([0.5, 0.0, 0.3, 0.2]).double(), 4
    states = torch.cat([law, torch.zeros(1)]).log().float().expand(40, 200, 5)
    start = torch.full((40, 200), mask)
    after = MDLMSampler(categorical=draws).step(states, lambda logits: logits, start, mask, 0.25, 0.7, Noise(range(40)))
    share = float((after == mask).double().mean())
    assert abs(share - 0.3 / 0.75) < 4 * math.sqrt(0.24 / 8000)
    turned = after[after != mask]
    found = torch.bincount(turned, minlength=4) / len(turned)
    assert bool(((found - law).abs() <= 4 * (law * (1 - law) / len(turned)).sqrt()).all()), found


@pytest.mark.parametrize("draw", [sample_by_inversion, sample_by_gumbel], ids=["inversion", "gumbel"])
def test_both_draws_follow_the_law(draw: Any) -> None:
    law, n = torch.tensor([0.0, 3.0, 0.5, 0.0, 1.5, 1e-3]).double(), 40_000
    uniform = Noise([5]).uniform(n, 6)[0]
    found = draw(law.expand(n, 6), uniform[:, 0] if draw is sample_by_inversion else uniform)
    share, p = torch.bincount(found, minlength=6) / n, law / law.sum()
    assert bool(((share - p).abs() <= 4 * (p * (1 - p) / n).sqrt()).all()), (share, p)


def test_the_ends_of_the_unit_interval_are_entries_of_the_law() -> None:
    law = torch.tensor([[0.0, 1.0, 2.0, 0.0]] * 2).double()
    tiny, last = torch.finfo(torch.float64).tiny, 1 - torch.finfo(torch.float64).eps / 2
    assert sample_by_inversion(law, torch.tensor([tiny, last], dtype=torch.float64)).tolist() == [1, 2]


def test_a_low_temperature_takes_the_likeliest_token() -> None:
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Autoregressive(1e-3).sample_token(logits, Noise(range(50))), logits.argmax(-1))


def test_the_nucleus_is_the_smallest_set_that_reaches_its_share() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.3, 0.1]]).log()
    for nucleus, kept in ((0.5, [1]), (0.51, [1, 2]), (0.8, [1, 2]), (0.85, [0, 1, 2]), (1.0, [0, 1, 2, 3])):
        assert Autoregressive(top_p=nucleus).token_weights(logits)[0].nonzero().flatten().tolist() == kept, nucleus


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"eps": 1.0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="temperature above 0"):
        MDLMSampler(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 1"):
        Autoregressive(top_p=1.5)
