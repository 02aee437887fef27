"""Group after group of positions, on a network whose law of the next token is known."""

from collections.abc import Sequence
from itertools import product
from math import log

import pytest
import torch

from tests.helpers.systems import make
from tests.helpers.trained_codecs import LENGTH
from textflow.codecs import EmbeddingTable
from textflow.diagnostics.cci import cci, collect_fed_ids
from textflow.diagnostics.grouping import GroupCost, fit_groups
from textflow.models.generation import drawn_in_groups
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.nets import Denoiser
from textflow.noise import Noise
from textflow.objectives import CrossEntropy
from textflow.readouts import FromPosterior
from textflow.samplers import Grouped
from textflow.schedules import Gumbel
from textflow.types import Conditioning, Ids, Latents, Posterior, Times

V, L = 5, 6


class PairNet(Denoiser):
    """Tokens 2 i and 2 i + 1 are equal, and uniform: the law of one is known once the other is clean."""

    def __init__(self, codec: EmbeddingTable) -> None:
        super().__init__()
        self.codec_of, self.dim, self.calls = [codec], codec.dim, 0

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        self.calls += 1
        clean = (t.reshape(len(t), -1).expand(z.shape[:2]) == 1)[..., None]
        own = self.codec_of[0].decode_logits(z).argmax(-1)
        partner = torch.arange(z.shape[1]) ^ 1
        known = torch.where(clean, torch.nn.functional.one_hot(own, V).float(), 0.0)[:, partner]
        logits = torch.where(known > 0, 0.0, -50.0).where(clean[:, partner], torch.zeros(()))
        return Posterior(logits.softmax(-1) @ self.codec_of[0].embeddings, logits)


def pairs(groups: Sequence[int]) -> Generator:
    """A generator of texts of three pairs of equal tokens, in some groups."""
    torch.manual_seed(0)
    model = Generator(
        V, lambda vocab: EmbeddingTable(vocab, 8), PairNet, CrossEntropy(), None,
        FromPosterior(temperature=1.0), FromPosterior(), order=Grouped(groups),
    )  # fmt: skip
    model.text_format = TextFormat(seq_length=L)
    return model.eval()


def texts(n: int) -> Ids:
    return torch.randint(V, (n, L // 2), generator=torch.Generator().manual_seed(1)).repeat_interleave(2, 1)


def test_a_group_is_drawn_given_the_tokens_of_the_groups_before() -> None:
    model = pairs([0, 1, 1, 0, 0, 1])
    ids = model.sample(list(range(64)), 1).ids
    assert torch.equal(ids[:, ::2], ids[:, 1::2]) and len({tuple(row) for row in ids.tolist()}) > 32
    model.order = Grouped([0] * L)  # at once: the tokens of a pair are drawn independently
    ids = model.sample(list(range(400)), 1).ids
    equal = float((ids[:, ::2] == ids[:, 1::2]).float().mean())
    assert equal == pytest.approx(1 / V, abs=4 * (0.16 / 1200) ** 0.5)


def test_each_group_takes_the_steps_of_sampling_and_default_groups_run_from_left_to_right() -> None:
    for groups, steps, calls in (([0, 1, 1, 0, 2, 2], 3, 9), ((), 1, L)):
        model = pairs(groups)
        model.ema_net.calls = 0
        trace = model.sample([1, 2], steps).trace
        assert model.ema_net.calls == calls == len(trace.beliefs) == len(trace.times) == len(trace.states)


def test_the_cost_of_groups_is_the_mean_negative_log_likelihood_of_the_texts() -> None:
    cost = GroupCost(pairs(()), texts(8))
    assert cost([0, 1, 0, 1, 0, 1]) == pytest.approx(3 * log(V), abs=1e-5)
    assert cost([0, 0, 0, 1, 0, 1]) == pytest.approx(4 * log(V), abs=1e-5)
    assert cost([0] * L) == pytest.approx(6 * log(V), abs=1e-5)


def test_groups_start_at_pure_noise_whatever_the_sampling_schedule() -> None:
    model = pairs(())
    model.own_sampling_schedule = Gumbel(-0.5, 0.1, cutoff=0.2)
    assert model.sampling_schedule.grid(1, t_min=0.0, t_max=1.0)[0] > 0.3
    assert GroupCost(model, texts(2)).t_start == 0
    with drawn_in_groups(model, [0] * L):
        assert model.sample([1], 1).trace.times == [0]
    assert isinstance(model.sampling_schedule, Gumbel)


def test_fitted_groups_are_as_good_as_the_best_of_all() -> None:
    cost = GroupCost(pairs(()), texts(8))
    best = min(cost(groups) for groups in product(range(2), repeat=L) if len(set(groups)) == 2)
    for seed in range(3):
        assert cost(fit_groups(cost, 2, seed)) == pytest.approx(best, abs=1e-5)
    with pytest.raises(ValueError, match="7 groups of 6 positions: needs at least 1 group, and a position for each"):
        fit_groups(cost, 7)


def test_a_prompt_is_clean_from_the_start_and_returns_exactly() -> None:
    model, ids = pairs([0] * L), texts(32)
    mask = torch.tensor([True, False] * (L // 2)).expand(ids.shape)
    assert torch.equal(model.complete(ids, mask, list(range(32)), 1), ids)


def test_texts_depend_on_their_seed_and_prompt_alone() -> None:
    model, ids = pairs([0, 1, 1, 0, 0, 1]), texts(3)
    together = model.sample([3, 4, 5], 2).ids
    assert torch.equal(torch.cat([model.sample([seed], 2).ids for seed in (3, 4, 5)]), together)
    model.order = Grouped([0, 0, 1, 1, 1, 1])
    mask = torch.tensor([[True, True] + [False] * 4, [False] * L, [False] * L])  # the first prompt is a whole group
    together = model.complete(ids, mask, [3, 4, 5], 1)
    assert torch.equal(model.complete(ids[:1], mask[:1], [3], 1), together[:1])


def test_the_cci_of_equal_groups_is_that_of_equal_batches() -> None:
    model = pairs([0, 1, 2, 0, 1, 2])
    sample = model.sample([1, 2, 3], 1)
    fed = collect_fed_ids(sample.trace)
    value = cci(fed, sample.ids, [1.0] * 3, torch.ones_like(sample.ids, dtype=torch.bool)).value
    assert value == pytest.approx((1 - 1 / 3) * L / (L - 1))


def test_a_trained_kind_of_system_draws_groups_as_its_network_sees_them() -> None:
    """The joint law of two groups, from the network's own passes with the first group clean."""
    model = make("LangFlow", order=Grouped([0, 1] * (LENGTH // 2)), readout=FromPosterior(1.0))
    sample = model.sample([7], 1)
    z, _ = model.initial_noise([7])
    known = torch.tensor([[True, False] * (LENGTH // 2)])
    x = model.codec.encode(sample.ids)
    start, end = sample.trace.times[0], model.path.t_max
    placed = torch.where(known[..., None], model.path.alpha_sigma(end)[0] * x, z)
    times = torch.where(known, end, start)
    cond = Conditioning(torch.where(known[..., None], x, 0.0), torch.ones(1))
    expected = model.sampling_net.belief_logits(model.sampling_net(placed, times, cond))
    found = model.sampling_net.belief_logits(sample.trace.beliefs[-1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_positions_outside_the_group_take_steps_of_length_0_in_a_flow_map() -> None:
    model, ends = make("LangFlow", order=Grouped([0, 1] * (LENGTH // 2)), two_time=True), list[torch.Tensor]()
    net = model.sampling_net
    net.register_forward_pre_hook(lambda _, inputs: ends.append(inputs[2].end_time - inputs[1]))
    model.sample([7], 1)
    assert [(lengths > 0)[0].tolist() for lengths in ends] == [[True, False] * 4, [False, True] * 4]


@pytest.mark.integration
def test_groups_with_a_gap_and_texts_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Grouped got the groups \[0, 2\]; needs 0, 1, 2, ... up to a last one"):
        Grouped([0, 2])
    with pytest.raises(ValueError, match="groups for 6 positions, but a text has 4; find others with textflow order"):
        pairs([0] * L).sample([1], 1, length=4)
    with pytest.raises(ValueError, match="needs a latent per token, but 4 latents of CosmosCodec are 8 tokens"):
        make("Cosmos", order=Grouped()).sample([1], 1)


def test_drawn_tokens_follow_the_temperature() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0]).expand(1, 20000, 4)
    for temperature in (0.5, 1.0):
        counts = Noise([0]).choose(logits, temperature)[0].bincount(minlength=4) / 20000
        torch.testing.assert_close(counts, (logits[0, 0] / temperature).softmax(-1), atol=0.015, rtol=0)
    with pytest.raises(ValueError, match="temperature is -1.0; FromPosterior needs at least 0"):
        FromPosterior(-1.0)
