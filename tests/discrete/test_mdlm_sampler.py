"""Ancestral sampling of masked diffusion: published ids, and the law of the draws."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.mdlm_nets import published, published_objective
from tests.helpers.recordings import constant, error, recorded
from textflow.discrete import Absorbing, MDLMSampler, TokenDenoiseFn, TokenDiT
from textflow.discrete.absorbing import reverse_transition
from textflow.models.autoregressive import Autoregressive
from textflow.noise import Noise
from textflow.samplers.categorical import sample_by_gumbel, sample_by_inversion

CONFIG = recorded("mdlm")[1]["config"]
DenoiserFactory = Callable[..., TokenDenoiseFn]


class RecordedNoise(Noise):
    """Recorded uniform numbers in place of streams."""

    def __init__(self, draws: Tensor) -> None:
        self.remaining = list(draws.double())

    def uniform(self, *shape: int) -> Tensor:
        return self.remaining.pop(0)


@pytest.fixture(scope="module")
def data() -> dict[str, Tensor]:
    return recorded("mdlm")[0]


@pytest.fixture(scope="module")
def denoiser() -> Iterator[DenoiserFactory]:
    """Makes the recorded network as a sampler calls it; `rows` gets the number of rows of each pass."""
    net, _, config = published()
    objective = published_objective(config)

    def make(rows: list[int] | None = None, time_conditioning: bool = config["time_conditioning"]) -> TokenDenoiseFn:
        observe = None if rows is None else lambda ids, t, states: rows.append(len(ids))
        return TokenDenoiseFn(net, objective.network_sigma, objective.process, time_conditioning, observe)

    with torch.no_grad():
        yield make


def all_masked(denoise: TokenDenoiseFn, rows: int) -> Tensor:
    return torch.full((rows, 10), denoise.net.vocab_size - 1)


@pytest.mark.parity
@pytest.mark.parametrize("form", ["ddpm", "cache"])
def test_one_step_is_the_published_one(denoiser: DenoiserFactory, data: dict[str, Tensor], form: str) -> None:
    floor = constant(CONFIG, "noise_eps") if form == "ddpm" else 0.0
    ids, denoise = data["step.x"], denoiser()
    t, dt, masked = float(data["step.t"][0]), float(data["step.dt"]), ids == denoise.net.vocab_size - 1
    logits = denoise.logits(denoise(ids, 1 - t)[masked])
    law = reverse_transition(logits, (1 - floor) * t, (1 - floor) * (t - dt))
    assert error(law.float(), data[f"step.{form}.q"][masked]) < 1e-5
    noise = RecordedNoise(data[f"step.{form}.uniform"][None])
    stepped = MDLMSampler(categorical="gumbel").step(denoise, ids, 1 - t, 1 - t + dt, noise)
    assert torch.equal(stepped, data[f"step.{form}.x_next"])


@pytest.mark.parity
@pytest.mark.parametrize("steps", CONFIG["steps"])
def test_samples_are_the_published_ones_with_as_few_passes(
    denoiser: DenoiserFactory, data: dict[str, Tensor], steps: int
) -> None:
    key, rows = f"sample.{steps}", list[int]()
    states: list[Tensor] = []

    class RecordingSampler(MDLMSampler):
        def step(self, *args: Any) -> Tensor:
            states.append(super().step(*args))
            return states[-1]

    denoise = denoiser(rows)
    mask_id = denoise.net.vocab_size - 1
    start, times = torch.full_like(data[f"{key}.ids"], mask_id), [i / steps for i in range(steps + 1)]
    sampler = RecordingSampler(eps=constant(CONFIG, "final_eps"), categorical="gumbel")
    ids = sampler.sample(denoise, start, times, RecordedNoise(data[f"{key}.uniform"]))
    assert torch.equal(torch.stack(states), data[f"{key}.x"])
    assert torch.equal(ids, data[f"{key}.ids"])
    pairs = list(zip([start, *states], states, strict=False))
    unfinished = [(after == mask_id).any(1) for _, after in pairs]
    if not denoise.time_conditioning:  # a row is evaluated again only where a token has changed
        unfinished = [(a != b).any(1) & masked for (a, b), masked in zip(pairs, unfinished, strict=True)]
    assert sum(rows) == len(start) + sum(int(each.sum()) for each in unfinished)
    fresh = steps - int(data[f"{key}.cached"].sum())  # the published cache is of the whole batch, and runs to the end
    assert len(rows) <= fresh + 1


def test_a_network_with_time_conditioning_is_evaluated_at_every_step(denoiser: DenoiserFactory) -> None:
    rows: list[int] = []
    denoise = denoiser(rows, time_conditioning=True)
    MDLMSampler().sample(denoise, all_masked(denoise, 2), [i / 20 for i in range(21)], Noise([1, 2]))
    assert rows[:10] == [2] * 10 and len(rows) > 15


@pytest.mark.parametrize("draws", ["inversion", "gumbel"])
def test_a_batch_gives_the_samples_one_by_one(denoiser: DenoiserFactory, draws: Any) -> None:
    def sample(seeds: list[int]) -> Tensor:
        denoise = denoiser()
        start = all_masked(denoise, len(seeds))
        return MDLMSampler(categorical=draws).sample(denoise, start, [0.0, 0.3, 0.7, 1.0], Noise(seeds))

    together = sample([3, 9, 3])
    assert torch.equal(together, torch.cat([sample([seed]) for seed in (3, 9, 3)]))
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])
    assert not (together == all_masked(denoiser(), 3)).any()


def test_a_prompt_stays(denoiser: DenoiserFactory) -> None:
    denoise = denoiser()
    start = all_masked(denoise, 2)
    last = denoise.net.vocab_size - 2
    start[:, 2:5] = torch.tensor([[1, 2, 3], [last, last - 1, last - 2]])
    ids = MDLMSampler().sample(denoise, start, [0.0, 0.5, 1.0], Noise([1, 2]))
    assert torch.equal(ids[:, 2:5], start[:, 2:5])


@pytest.mark.parametrize("draws", ["inversion", "gumbel"])
def test_masks_turn_as_often_as_the_times_say_and_into_tokens_by_their_law(draws: Any) -> None:
    law, mask = torch.tensor([0.5, 0.0, 0.3, 0.2]).double(), 4
    logits = torch.cat([law, torch.zeros(1)]).log().float().expand(40, 200, 5)
    start = torch.full((40, 200), mask)
    net = TokenDiT(5, 8, depth=1, heads=1, cond_width=4)
    net.lm_logits = lambda hidden: hidden  # type: ignore[method-assign]
    denoise = TokenDenoiseFn(net, torch.zeros_like, Absorbing(), ids=start, states=logits)
    after = MDLMSampler(categorical=draws).step(denoise, start, 0.25, 0.7, Noise(range(40)))
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
