"""CCI by its exact values."""

import math

import pytest
import torch

from tests.helpers.independent_tokens import First, atoms, pair
from textflow.diagnostics.cci import (
    cci,
    cci_info,
    collect_fed_ids,
    evidence_strength,
    find_decision_calls,
    teacher_forced_nll,
)
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Euler, sample
from textflow.types import Ids, Latents, Posterior


def text(rows: int, length: int, vocab: int = 9) -> Ids:
    return (Noise(range(rows)).uniform(length) * vocab).long()


def schedule(final: Ids, batches: list[list[int]]) -> list[Ids]:
    """Tokens fed to each call when call k decides batches[k]."""
    fed = [torch.full_like(final, -1)]
    for at in batches[:-1]:
        fed.append(fed[-1].clone())
        fed[-1][:, at] = final[:, at]
    return fed


def full(ids: Ids) -> torch.Tensor:
    return torch.ones_like(ids, dtype=torch.bool)


def test_a_one_shot_readout_has_no_categorical_feedback() -> None:
    final = text(3, 32)
    none = [torch.full_like(final, -1)] * 8
    found = cci(none, final, [1.0] * 8, full(final))
    assert found.value == 0 and (found.decision_calls == 7).all()


def test_autoregression_has_all_of_it() -> None:
    final = text(3, 32)
    found = cci(schedule(final, [[i] for i in range(32)]), final, [1.0] * 32, full(final))
    assert found.value == 1 and torch.equal(found.decision_calls[0], torch.arange(32))


@pytest.mark.parametrize(("K", "known"), [(2, 0.516), (4, 0.774), (8, 0.903), (16, 0.968)])
def test_masked_decoding_in_equal_batches_has_its_closed_form(K: int, known: float) -> None:
    final, order = text(4, 32), torch.randperm(32, generator=torch.Generator().manual_seed(1)).tolist()
    batches = [order[k * 32 // K : (k + 1) * 32 // K] for k in range(K)]
    found = cci(schedule(final, batches), final, [1.0] * K, full(final))
    assert found.value == pytest.approx((1 - 1 / K) * 32 / 31, abs=1e-6)
    assert found.value == pytest.approx(known, abs=1e-3)


def test_a_revised_decision_counts_from_where_it_stands() -> None:
    final = torch.tensor([[5, 6]])
    fed = [torch.tensor([ids]) for ids in ([-1, -1], [5, 2], [5, 6], [3, 6], [5, 6])]
    assert find_decision_calls(fed, final).tolist() == [[3, 1]]
    assert find_decision_calls(fed[:2], final).tolist() == [[0, 1]]
    assert find_decision_calls(fed[:1], final).tolist() == [[0, 0]]


def test_weak_evidence_counts_by_its_weight() -> None:
    final = text(2, 10)
    fed = schedule(final, [[0, 1], [2, 3, 4], [5, 6, 7, 8, 9]])
    found = cci(fed, final, [1.0, 0.5, 0.25], full(final))
    assert found.value == pytest.approx((0.5 * 3 * 2 + 0.25 * 5 * 5) / 45, abs=1e-12)
    with pytest.raises(ValueError, match="3 calls and 2 weights"):
        cci(fed, final, [1.0, 1.0], full(final))


def test_padding_counts_for_nothing_and_sequences_do_not_mix() -> None:
    final = text(3, 12)
    mask = full(final)
    mask[0, 8:], mask[2, 1:] = False, False
    fed = schedule(final, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])
    found = cci(fed, final, [1.0] * 3, mask)
    assert found.per_sequence.tolist() == pytest.approx([16 / 28, 48 / 66, 0.0])
    assert found.value == pytest.approx((16 / 28 + 48 / 66) / 2), "a single token has no pair"
    spoiled = [torch.where(mask, ids, 77) for ids in fed]
    assert torch.equal(cci(spoiled, torch.where(mask, final, 5), [1.0] * 3, mask).per_sequence, found.per_sequence)
    alone = [cci([f[i : i + 1] for f in fed], final[i : i + 1], [1.0] * 3, mask[i : i + 1]).value for i in range(3)]
    assert found.per_sequence.tolist() == alone


def test_a_trace_tells_what_was_fed() -> None:
    world, escape = pair(2.0, 4, scale=1.0), First()

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        belief = world.denoise(z, t)
        return escape(belief, t, lambda: belief.logits, lambda ids: world.codes[ids], Noise([0, 1]))

    z = Noise([4, 5]).normal(5, 4).double()
    trace = sample(denoise, Euler(), world.path, [0.0, 0.25, 0.5, 1.0], z, Noise([0, 1]))
    fed = collect_fed_ids(trace)
    assert [(ids >= 0).sum(1).tolist() for ids in fed] == [[0, 0], [1, 1], [2, 2]]
    assert torch.equal(fed[2][:, 0], trace.beliefs[0].committed[:, 0]), "a decision stands"
    bare = sample(world.denoise, Euler(), world.path, [0.0, 0.5, 1.0], z, Noise([0, 1]))
    assert all((ids == -1).all() for ids in collect_fed_ids(bare))


def test_evidence_is_none_in_noise_and_full_in_text() -> None:
    world = pair(2.0, 4, scale=3.0)
    x = world.draw(20, 1000)[1]
    mask = torch.ones(20, 1000, dtype=torch.bool)
    at = lambda t: evidence_strength(world.read, x, mask, world.path, t, Noise(range(20)))  # noqa: E731
    assert at(0.0) == 0 and at(1.0) == 1
    known = 1 - math.erfc(2 / 3 / math.sqrt(2))  # accuracy Phi(a / s) with s = 3, chance 1/2
    assert at(0.5) == pytest.approx(known, abs=4 * 2 * math.sqrt(0.19 / 20_000))


def test_correlation_is_carried_by_what_was_known_when_deciding() -> None:
    """Two equal tokens out of V: the second costs nothing when conditioned on the first."""
    V, ids = 8, torch.arange(8)[:, None].expand(8, 2)
    blind = torch.zeros(8, 2, V)
    sighted = 60 * torch.nn.functional.one_hot(ids, V).float()
    mask, decided = full(ids), torch.tensor([0, 1]).expand(8, 2)
    forced = teacher_forced_nll([blind, sighted], ids, decided, mask)
    assert forced == pytest.approx(math.log(V) / 2, abs=1e-6)
    assert cci_info(math.log(V), forced, math.log(V) / 2) == pytest.approx(1, abs=1e-6)
    at_once = teacher_forced_nll([blind, sighted], ids, torch.zeros_like(ids), mask)
    assert cci_info(math.log(V), at_once, math.log(V) / 2) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="no correlation"):
        cci_info(1.0, 1.0, 1.0)


def test_evidence_of_the_linear_path_grows_with_time() -> None:
    world = atoms(16, 4, 0.0)
    x = world.draw(10, 200)[1]
    mask = torch.ones(10, 200, dtype=torch.bool)
    found = [
        evidence_strength(world.read, x, mask, LinearPath(2.0), t, Noise(range(10))) for t in (0.05, 0.3, 0.6, 0.9)
    ]
    assert found == sorted(found) and found[0] < 0.2 and found[-1] > 0.8
