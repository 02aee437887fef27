"""A generator's samples depend on the weights, the sampler and the seed, not on their company."""

import pytest
import torch

from tests.helpers.tiny_generator import untrained
from textflow.models.generator import Generator
from textflow.samplers import Euler, Heun, Reinject, Sampler
from textflow.types import Batch

SEEDS = [11, 5, 902, 7, 7]


@pytest.fixture(scope="module")
def generator() -> Generator:
    return untrained()


@pytest.mark.parametrize("sampler", [Euler(), Heun(), Reinject(1.5), Reinject(1.0, "marginal_preserving")], ids=str)
def test_a_batch_gives_the_ids_of_its_samples_one_by_one(generator: Generator, sampler: Sampler) -> None:
    together = generator.sample(SEEDS, 5, sampler).ids
    alone = torch.cat([generator.sample([seed], 5, sampler).ids for seed in SEEDS])
    assert torch.equal(together, alone) and torch.equal(together[3], together[4])
    assert len({tuple(row) for row in together.tolist()}) == 4, "samples of different seeds are alike: nothing is shown"


def test_samples_leave_the_global_stream_alone_and_do_not_read_it(generator: Generator) -> None:
    torch.manual_seed(1)
    first = generator.sample([3], 4, Reinject(1.5)).ids
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(generator.sample([3], 4, Reinject(1.5)).ids, first)


def test_length_steps_and_guidance_are_obeyed(generator: Generator) -> None:
    assert generator.sample([1], 2).ids.shape == (1, 12) and generator.sample([1], 2, length=20).ids.shape == (1, 20)
    assert len(generator.sample([1], 6).trace.states) == 6
    one, three = (generator.sample([1], 4, self_cond_guidance=w).trace.z for w in (1.0, 3.0))
    assert not torch.equal(one, three)


def test_a_generator_without_a_tokenizer_says_so(generator: Generator) -> None:
    with pytest.raises(ValueError, match=r"textflow\.load"):
        generator.generate(1)


def test_the_codec_stays_in_eval_mode(generator: Generator) -> None:
    assert not generator.train().codec.training
    generator.eval()


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_without_self_conditioned_or_decoding_rows_has_a_loss(generator: Generator, rows: int) -> None:
    ids = torch.randint(40, (rows, 12), generator=torch.Generator().manual_seed(0))
    for seed in range(12):  # the coins fall every way
        torch.manual_seed(seed)
        loss = generator.losses(generator.net, Batch(ids, torch.ones_like(ids, dtype=torch.bool)))["loss"]
        assert loss.isfinite() and loss > 0
