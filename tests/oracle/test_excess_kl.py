"""Excess KL of samples with known scores: other chains, true texts, repeated tokens."""

import math

import pytest
import torch

from textflow.noise import Noise
from textflow.oracle import Chain, ExcessKLScorer, OracleTask
from textflow.oracle.excess_kl import legal_transitions, miller_madow_entropy, sample_statistics
from textflow.oracle.imperfect import forget_context
from textflow.oracle.tasks import chain_task, topic_task

pytestmark = pytest.mark.integration

N = 512


@pytest.fixture(scope="module")
def task() -> OracleTask:
    return chain_task(0)


@pytest.fixture(scope="module")
def scorer(task: OracleTask) -> ExcessKLScorer:
    return ExcessKLScorer(task.prior, task.reference_samples(N))


def texts(prior: Chain, n: int = N, first: int = 7000) -> torch.Tensor:
    return prior.sample_posterior(torch.zeros(n, 32, prior.vocab_size).double(), Noise(range(first, first + n)))


def unit_weights(n: int) -> torch.Tensor:
    return torch.ones(n, 1).double()


def test_entropy_has_the_miller_madow_correction() -> None:
    cells = torch.tensor([[5, 5], [9, 7]])
    assert float(miller_madow_entropy(cells, unit_weights(2))) == pytest.approx(1.5 * math.log(2) + 2 / 8, abs=1e-12)
    second = torch.tensor([[0.0], [2.0]]).double()  # the second text alone
    assert float(miller_madow_entropy(cells, second)) == pytest.approx(math.log(2) + 1 / 8, abs=1e-12)
    fair = (Noise([0]).uniform(4000, 1)[0] * 32).long()
    assert float(miller_madow_entropy(fair, unit_weights(4000))) == pytest.approx(
        math.log(32), abs=4 * (31 / 2) ** 0.5 / 4000
    )


def test_true_texts_have_no_excess(task: OracleTask, scorer: ExcessKLScorer) -> None:
    score = scorer.score(texts(task.prior), Noise([1]))
    for name in ("xkl2", "xkl3"):
        low, high = score.interval(name)
        assert low - 0.003 < 0 < high + 0.003 and high - low < 0.03
    assert score.illegal == pytest.approx(0.01 * (1 - 3.8 / 32), abs=0.003)  # the smoothing, off the successors
    assert not score.collapsed and score.ranking_key == score.xkl3


def test_kl2_is_the_divergence_of_a_chain_from_the_truth(task: OracleTask, scorer: ExcessKLScorer) -> None:
    q, p = forget_context(task.prior, 0.1), task.prior
    exact = float(q.initial @ (q.transition * (q.transition / p.transition).log()).sum(-1)) * 31 / 32
    score = scorer.score(texts(q), Noise([2]))
    assert score.xkl2 == pytest.approx(exact, abs=4 * score.std_error["xkl2"]) and score.std_error["xkl2"] < exact / 10
    assert exact > 0.14


def test_kl3_detects_what_kl2_cannot(scorer: ExcessKLScorer, task: OracleTask) -> None:
    """Texts of alternating steps of two chains: their pairs are alike everywhere, their triples are not."""
    a, b = texts(task.prior), texts(task.prior, first=99_000)
    mixed = torch.stack([a, b], -1).flatten(1)[:, :32]
    score = scorer.score(mixed)
    assert score.xkl3 > score.xkl2 + 0.5 > 1


def test_topics_are_counted_separately(task: OracleTask) -> None:
    """A text whose topic changes in the middle is not legal in any one topic."""
    four = topic_task(0)
    scorer = ExcessKLScorer(four.prior, four.reference_samples(N))
    a, b = texts(four.prior), texts(four.prior, first=99_000)
    torn = torch.cat([a[:, :16], b[:, 16:]], 1)
    true, score = scorer.score(a), scorer.score(torn)
    assert abs(true.xkl2) < 0.02 and score.xkl2 > 0.5 and score.illegal > true.illegal + 0.15
    kinds = four.prior.most_likely_topic(a)
    parts = [sample_statistics(four.prior, a[kinds == k], unit_weights(int((kinds == k).sum()))) for k in range(4)]
    assert sum(int((kinds == k).sum()) for k in range(4)) == N and len(parts) == 4
    share = torch.bincount(kinds).double() / N
    inside = sum(float(w * (p[2, 0] - p[0, 0])) for w, p in zip(share, parts, strict=True))  # -sum of entropies
    spread = float(torch.special.entr(share).sum()) + 3 / (2 * N)  # H(topic), corrected
    assert true.kl2 == pytest.approx(true.nll + inside - spread / 32, abs=1e-9)
    table = legal_transitions(four.prior)
    assert table.shape == (4, 24, 24) and int(table.sum()) > int(table.any(0).sum()) > int(table[0].sum()) + 100


def test_repeated_tokens_are_not_ranked(task: OracleTask, scorer: ExcessKLScorer) -> None:
    ids = task.make_generator().sample(list(range(4)), 1).ids
    score = scorer.score(ids[:1].expand(N, -1))
    assert score.h1 == 0 and score.collapsed
    with pytest.raises(ValueError, match="repeat one token"):
        _ = score.ranking_key


def test_standard_errors_agree_with_repeated_samples(task: OracleTask, scorer: ExcessKLScorer) -> None:
    scores = [scorer.score(texts(task.prior, first=10_000 * i)) for i in range(1, 13)]
    spread = scorer.score(texts(task.prior), Noise([3])).std_error
    for name, most in (("nll", 2), ("h1", 2), ("illegal", 2), ("kl2", 4)):
        expected = float(torch.tensor([getattr(score, name) for score in scores]).std())
        assert (
            0.5 < spread[name] / expected < most
        )  # 12 samples: the ratio's SD is .22; of the truth's kl2 it is too wide


def test_invalid_uses_are_refused(task: OracleTask, scorer: ExcessKLScorer) -> None:
    with pytest.raises(ValueError, match="at least 3 true samples"):
        ExcessKLScorer(task.prior, task.reference_samples(8, num_samples=2))
    with pytest.raises(ValueError, match="as many and as long"):
        scorer.score(texts(task.prior, 8))
    with pytest.raises(ValueError, match="no std_error of 'nll'"):
        scorer.score(texts(task.prior)).interval("nll")
