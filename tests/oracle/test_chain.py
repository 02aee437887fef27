"""Chain against enumeration of every text of a tiny chain."""

from itertools import product

import pytest
import torch
from torch.testing import assert_close

from textflow.noise import Noise
from textflow.oracle import Chain
from textflow.oracle.chain import sample_index

STATES, LENGTH = 5, 4
EMISSION = torch.tensor([0, 1, 2, 0, 2])  # two topics, {0, 1, 2} and {3, 4}
PATHS = torch.tensor(list(product(range(STATES), repeat=LENGTH)))
TOL = {"rtol": 1e-12, "atol": 1e-13}


@pytest.fixture(scope="module")
def chain() -> Chain:
    u = Noise([0]).uniform(STATES + 1, STATES)[0]
    u[0, 3:] *= 0.3
    initial, law = u[0] / u[0].sum(), u[1:] ** 3
    law[:3, 3:] = law[3:, :3] = 0
    return Chain(initial, law / law.sum(-1, keepdim=True), EMISSION, torch.tensor([0, 0, 0, 1, 1]))


def prior(chain: Chain) -> torch.Tensor:
    """p of every path of states."""
    steps = chain.transition[PATHS[:, :-1], PATHS[:, 1:]].prod(1)
    return chain.initial[PATHS[:, 0]] * steps


def evidence(rows: int = 3, size: float = 4.0) -> torch.Tensor:
    return size * Noise(range(rows)).normal(LENGTH, 3).double()


def weights(chain: Chain, loglik: torch.Tensor) -> torch.Tensor:
    """p(path, evidence) of every path, [B, paths]."""
    positions = torch.arange(LENGTH)
    return prior(chain) * torch.stack([row[positions, EMISSION[PATHS]].sum(1).exp() for row in loglik])


def test_nll_is_the_sum_over_all_paths(chain: Chain) -> None:
    texts = torch.tensor(list(product(range(3), repeat=LENGTH)))
    emits = (EMISSION[PATHS][None] == texts[:, None]).all(-1).double()
    p = emits @ prior(chain)
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    assert_close(chain.nll(texts).sum(1), -p.log(), **TOL)


def test_the_posterior_is_the_share_of_all_paths(chain: Chain) -> None:
    loglik = evidence()
    joint = weights(chain, loglik)
    tokens = torch.nn.functional.one_hot(EMISSION[PATHS], 3).double()  # [paths, L, V]
    truth = torch.einsum("bp,plv->blv", joint, tokens) / joint.sum(1)[:, None, None]
    assert_close(chain.posterior(loglik), truth, **TOL)
    assert (truth - loglik.softmax(-1)).abs().max() > 0.1, "the prior has no effect"


def test_joint_samples_have_the_distribution_of_all_paths(chain: Chain) -> None:
    n, loglik = 4000, evidence(1, 1.0)
    samples = chain.sample_posterior(loglik.expand(n, -1, -1), Noise(range(n)))
    digits = 3 ** torch.arange(LENGTH)
    law = torch.zeros(3**LENGTH).double().index_add(0, (EMISSION[PATHS] * digits).sum(1), weights(chain, loglik)[0])
    law, counts = law / law.sum(), torch.bincount((samples * digits).sum(1), minlength=3**LENGTH)
    chi = ((counts - n * law) ** 2 / (n * law)).sum()
    assert float(chi) < 80 + 5 * (2 * 80) ** 0.5  # 81 cells: mean 80, SD sqrt(160)
    texts = torch.tensor(list(product(range(3), repeat=LENGTH))).flip(1)
    independent = chain.posterior(loglik)[0, torch.arange(LENGTH), texts].prod(1)
    assert float(((counts - n * independent) ** 2 / (n * independent)).sum()) > 300, "dependence is not detectable"


def test_a_row_does_not_depend_on_its_batch(chain: Chain) -> None:
    loglik, seeds = evidence(5), [3, 1, 4, 1, 5]
    together = chain.sample_posterior(loglik, Noise(seeds))
    alone = torch.cat([chain.sample_posterior(loglik[i : i + 1], Noise([seeds[i]])) for i in range(5)])
    assert torch.equal(together, alone) and len(set(map(tuple, together.tolist()))) > 1
    assert_close(chain.posterior(loglik)[2:3], chain.posterior(loglik[2:3]), **TOL)


def test_topics_are_the_likeliest_of_all_paths(chain: Chain) -> None:
    texts = torch.tensor(list(product([0, 2], repeat=LENGTH)))  # both topics can emit these
    joint = (EMISSION[PATHS][None] == texts[:, None]).all(-1).double() * prior(chain)
    second = joint @ (PATHS[:, 0] >= 3).double()
    assert torch.equal(chain.most_likely_topic(texts), (second > joint.sum(1) / 2).long())
    assert 0 < int(chain.most_likely_topic(texts).sum()) < len(texts)


def test_an_impossible_text_has_infinite_nll_and_impossible_evidence_a_finite_posterior() -> None:
    strict = Chain(torch.tensor([1.0, 0.0]), torch.eye(2))
    assert strict.nll(torch.tensor([[0, 1]])).sum() == torch.inf and strict.nll(torch.tensor([[0, 0]])).sum() == 0
    conflict = torch.tensor([[[0.0, -1e3], [-1e3, 0.0], [-1e3, 0.0]]]).double()
    gamma = strict.posterior(conflict)
    assert gamma.isfinite().all() and torch.equal(gamma.argmax(-1), torch.zeros(1, 3, dtype=torch.long))


def test_a_constant_at_a_position_does_not_change_the_posterior(chain: Chain) -> None:
    shifted = evidence() + torch.tensor([1e6, -1e6, 0.0, 3.0]).double()[:, None]
    assert_close(chain.posterior(shifted), chain.posterior(evidence()), rtol=0, atol=1e-9)


def test_an_index_without_weight_is_never_sampled() -> None:
    law = torch.tensor([[0.0, 2.0, 0.0, 3.0, 0.0]]).double()
    u = torch.tensor([1e-300, 0.3, 0.399, 0.401, 1 - 2**-53], dtype=torch.float64)
    assert sample_index(law.expand(5, -1), u).tolist() == [1, 1, 1, 3, 3]
