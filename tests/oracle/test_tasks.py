"""Oracle tasks match their description, and a Generator runs on them as on a trained denoiser."""

import pytest
import torch
from torch.testing import assert_close

from textflow.noise import Noise, sample_seeds
from textflow.oracle import ORACLE_TASKS, ExcessKLScorer
from textflow.readouts import FromPosterior
from textflow.samplers import Euler, Reinject, Sampler
from textflow.schedules import LogitNormal

pytestmark = pytest.mark.integration

NAMES = list(ORACLE_TASKS)
TUNED = LogitNormal(-0.2, 0.4)


@pytest.mark.parametrize("name", NAMES)
def test_transitions_are_normalised_and_the_initial_law_is_stationary(name: str) -> None:
    prior = ORACLE_TASKS[name](0).prior
    assert_close(prior.transition.sum(-1), torch.ones(len(prior.initial)).double(), rtol=0, atol=1e-12)
    assert_close(prior.initial @ prior.transition, prior.initial, rtol=0, atol=1e-12)
    assert float(prior.initial.sum()) == pytest.approx(1, abs=1e-12) and bool((prior.initial > 0).all())
    assert not bool(((prior.transition == 0) & (prior.topic[:, None] == prior.topic)).any())


@pytest.mark.parametrize(
    ("name", "vocab", "dim", "tau", "topics"),
    [("chain", 32, 16, 0.0, 1), ("text", 64, 40, 0.3, 1), ("topic", 24, 16, 0.0, 4)],
)
def test_sizes(name: str, vocab: int, dim: int, tau: float, topics: int) -> None:
    task = ORACLE_TASKS[name](0)
    assert (task.codec.vocab_size, task.codec.dim, task.codec.tau) == (vocab, dim, tau)
    assert task.prior.vocab_size == vocab
    assert int(task.prior.topic.max()) + 1 == topics and task.codec.is_trained
    assert_close(task.codec.codes.norm(dim=-1), torch.full((vocab,), dim**0.5), rtol=1e-6, atol=0)
    branches = task.prior.legal.sum(-1)
    assert int(branches.min()) >= 1 and int(branches.max()) <= (16 if name == "text" else 4)


@pytest.mark.parametrize("name", NAMES)
def test_true_texts_have_the_entropy_of_their_task(name: str) -> None:
    task = ORACLE_TASKS[name](0)
    ids = task.sample(Noise(range(256)))
    assert ids.shape == (256, 32)
    nll = task.prior.nll(ids)
    rate = float(task.prior.initial @ torch.special.entr(task.prior.transition).sum(-1))
    late = nll[:, 24:].mean(1)  # by then the topic is known
    assert abs(float(late.mean()) - rate) < 4 * float(late.std()) / 16
    assert float(nll[:, 0].mean()) > rate + 1


def test_a_task_depends_only_on_its_seed() -> None:
    for make in ORACLE_TASKS.values():
        assert torch.equal(make(3).prior.transition, make(3).prior.transition)
        assert not torch.equal(make(3).prior.transition, make(4).prior.transition)
        assert not torch.equal(make(3).codec.codes, make(4).codec.codes)


def test_latents_lie_around_the_codes_and_depend_on_the_seed() -> None:
    task = ORACLE_TASKS["text"](0)
    ids = task.sample(Noise(range(64)))
    x = task.codec.sample_latents(ids, Noise(range(64)))
    assert float((x - task.codec.encode(ids)).std()) == pytest.approx(0.3, rel=0.01)
    assert torch.equal(x[5:6], task.codec.sample_latents(ids[5:6], Noise([5])))
    assert torch.equal(task.codec.decode_logits(x).argmax(-1), ids)


@pytest.mark.parametrize("name", NAMES)
def test_samples_approach_the_truth_with_more_steps(name: str) -> None:
    task, n = ORACLE_TASKS[name](0), 128
    generator = task.make_generator(sampling_schedule=TUNED)
    scorer = ExcessKLScorer(task.prior, task.reference_samples(n))
    scores = [scorer.score(generator.sample(sample_seeds(0, 0, n), steps).ids) for steps in (2, 4, 16)]
    nll = [score.nll for score in scores]
    assert nll[0] > nll[1] + 0.3 > nll[2] + 0.4 and scores[2].xkl2 < 0.05


def test_one_step_of_the_ode_repeats_one_token() -> None:
    """At t = 0 the mean does not depend on z."""
    for make in ORACLE_TASKS.values():
        ids = make(0).make_generator().sample([1, 2, 3], 1).ids
        assert ids.shape == (3, 32) and len(ids.unique()) == 1


def test_the_grid_affects_samples_more_than_the_readout() -> None:
    task, n = ORACLE_TASKS["chain"](0), 128
    seeds, scorer = sample_seeds(0, 0, n), ExcessKLScorer(task.prior, task.reference_samples(n))
    official = scorer.score(task.make_generator().sample(seeds, 4).ids)
    tuned = scorer.score(task.make_generator(sampling_schedule=TUNED).sample(seeds, 4).ids)
    likeliest = scorer.score(task.make_generator(FromPosterior(), sampling_schedule=TUNED).sample(seeds, 4).ids)
    assert official.xkl2 > 1.2 > 0.3 > tuned.xkl2 > likeliest.xkl2


@pytest.mark.parametrize("sampler", [Euler(), Reinject(1.5)], ids=str)
def test_a_batch_has_the_ids_of_its_single_samples(sampler: Sampler) -> None:
    generator, seeds = ORACLE_TASKS["topic"](0).make_generator(sampling_schedule=TUNED), [11, 5, 902, 7, 7]
    together = generator.sample(seeds, 4, sampler).ids
    alone = torch.cat([generator.sample([seed], 4, sampler).ids for seed in seeds])
    assert torch.equal(together, alone) and len({tuple(row) for row in together.tolist()}) == 4
