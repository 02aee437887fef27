"""CCI by its exact values."""

import math

import pytest
import torch

from tests.helpers.independent_tokens import CommitInOrder, pair, text_and_mask
from textflow.diagnostics.cci import (
    cci,
    cci_info,
    collect_fed_ids,
    evidence_strength,
    find_decision_calls,
    teacher_forced_nll,
)
from textflow.noise import Noise
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


def test_the_cci_of_a_one_shot_readout_is_0() -> None:
    final = text(3, 32)
    result = cci([torch.full_like(final, -1)] * 8, final, [1.0] * 8, full(final))
    assert result.value == 0 and (result.decision_calls == 7).all()


@pytest.mark.parametrize(("K", "known"), [(2, 0.516), (4, 0.774), (8, 0.903), (16, 0.968), (32, 1.0)])
def test_decoding_in_equal_batches_matches_its_closed_form(K: int, known: float) -> None:
    """One token per call is autoregression."""
    final, order = text(4, 32), torch.randperm(32, generator=torch.Generator().manual_seed(1))
    result = cci(schedule(final, order.reshape(K, -1).tolist()), final, [1.0] * K, full(final))
    assert result.value == pytest.approx((1 - 1 / K) * 32 / 31, abs=1e-6)
    assert result.value == pytest.approx(known, abs=1e-3)
    assert torch.equal(result.decision_calls[0][order], torch.arange(32) * K // 32)


def test_pairs_are_weighted_by_evidence_and_a_revised_token_by_its_last_revision() -> None:
    final = torch.tensor([[5, 6]])
    fed = [torch.tensor([ids]) for ids in ([-1, -1], [5, 2], [5, 6], [3, 6], [5, 6])]
    assert find_decision_calls(fed, final).tolist() == [[3, 1]]
    assert find_decision_calls(fed[:2], final).tolist() == [[0, 1]]
    assert find_decision_calls(fed[:1], final).tolist() == [[0, 0]]
    final = text(2, 10)
    fed = schedule(final, [[0, 1], [2, 3, 4], [5, 6, 7, 8, 9]])
    result = cci(fed, final, [1.0, 0.5, 0.25], full(final))
    assert result.value == pytest.approx((0.5 * 3 * 2 + 0.25 * 5 * 5) / 45, abs=1e-12)
    with pytest.raises(ValueError, match="3 calls and 2 weights"):
        cci(fed, final, [1.0, 1.0], full(final))


def test_padding_changes_nothing_and_sequences_are_independent() -> None:
    final = text(3, 12)
    mask = full(final)
    mask[0, 8:], mask[2, 1:] = False, False
    fed = schedule(final, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])
    result = cci(fed, final, [1.0] * 3, mask)
    assert result.per_sequence.tolist() == pytest.approx([16 / 28, 48 / 66, 0.0])
    assert result.value == pytest.approx((16 / 28 + 48 / 66) / 2), "a single token has no pair"
    dirty = [torch.where(mask, ids, 77) for ids in fed]
    assert torch.equal(cci(dirty, torch.where(mask, final, 5), [1.0] * 3, mask).per_sequence, result.per_sequence)
    alone = [cci([f[i : i + 1] for f in fed], final[i : i + 1], [1.0] * 3, mask[i : i + 1]).value for i in range(3)]
    assert result.per_sequence.tolist() == alone


def test_fed_ids_are_collected_from_a_trace() -> None:
    task, escape = pair(2.0, 4, scale=1.0), CommitInOrder()

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        belief = task.denoise(z, t)
        return escape(belief, t, lambda: belief.logits, lambda ids: task.codes[ids], Noise([0, 1]))

    z = Noise([4, 5]).normal(5, 4).double()
    trace = sample(denoise, Euler(), task.path, [0.0, 0.25, 0.5, 1.0], z, Noise([0, 1]))
    fed = collect_fed_ids(trace)
    assert [(ids >= 0).sum(1).tolist() for ids in fed] == [[0, 0], [1, 1], [2, 2]]
    assert torch.equal(fed[2][:, 0], trace.beliefs[0].committed[:, 0]), "a committed token is fed from then on"
    bare = sample(task.denoise, Euler(), task.path, [0.0, 0.5, 1.0], z, Noise([0, 1]))
    assert all((ids == -1).all() for ids in collect_fed_ids(bare))


def test_evidence_is_0_in_noise_and_1_in_text_and_grows_with_time() -> None:
    task = pair(2.0, 4, scale=3.0)
    x, mask = text_and_mask(task, 20, 1000)
    times = (0.0, 0.2, 0.5, 0.8, 1.0)
    strengths = [evidence_strength(task.read, x, mask, task.path, t, Noise(range(20))) for t in times]
    assert strengths[0] == 0 and strengths[-1] == 1 and strengths == sorted(strengths)
    known = 1 - math.erfc(2 / 3 / math.sqrt(2))  # accuracy Phi(a / s) with s = 3, chance 1/2
    assert strengths[2] == pytest.approx(known, abs=4 * 2 * math.sqrt(0.19 / 20_000))


def test_cci_info_is_1_for_tokens_decided_in_turn_and_0_for_tokens_decided_at_once() -> None:
    """Two equal tokens out of V: the second costs nothing when conditioned on the first."""
    V, ids = 8, torch.arange(8)[:, None].expand(8, 2)
    independent = torch.zeros(8, 2, V)
    conditioned = 60 * torch.nn.functional.one_hot(ids, V).float()
    mask, decided = full(ids), torch.tensor([0, 1]).expand(8, 2)
    forced = teacher_forced_nll([independent, conditioned], ids, decided, mask)
    assert forced == pytest.approx(math.log(V) / 2, abs=1e-6)
    assert cci_info(math.log(V), forced, math.log(V) / 2) == pytest.approx(1, abs=1e-6)
    at_once = teacher_forced_nll([independent, conditioned], ids, torch.zeros_like(ids), mask)
    assert cci_info(math.log(V), at_once, math.log(V) / 2) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="no correlation"):
        cci_info(1.0, 1.0, 1.0)


def test_pairs_of_two_blocks_that_are_sampled_apart_count_0() -> None:
    final = text(2, 5)
    fed = schedule(final, [[0, 3], [1, 2], [4]])
    # 0 before 1 and 2, 3 before 4: three of ten pairs
    assert cci(fed, final, [0.0, 1.0, 1.0], full(final), block_size=3).value == pytest.approx(0.3)
