"""Samples of a generator do not depend on their batch; training on pairs gives right answers."""

import pytest
import torch

from tests.helpers.tiny_generator import untrained
from textflow.codecs import EmbeddingTable
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.nets import ELF
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.samplers import Euler, Heun, Reinject, Sampler
from textflow.training import MuonAdam
from textflow.training.ema import update_ema
from textflow.types import Batch

SEEDS = [11, 5, 902, 7, 7]
VOCAB, HALF = 24, 4  # of pairs


@pytest.fixture(scope="module")
def generator() -> Generator:
    return untrained()


@pytest.mark.integration
@pytest.mark.parametrize("sampler", [Euler(), Heun(), Reinject(1.5), Reinject(1.0, "marginal_preserving")], ids=str)
def test_a_batch_gives_the_ids_of_its_samples_one_by_one(generator: Generator, sampler: Sampler) -> None:
    together = generator.sample(SEEDS, 3, sampler).ids
    alone = torch.cat([generator.sample([seed], 3, sampler).ids for seed in SEEDS])
    assert torch.equal(together, alone) and torch.equal(together[3], together[4])
    assert len({tuple(row) for row in together.tolist()}) == 4, "samples of different seeds are equal"


def test_samples_neither_change_nor_read_the_global_random_state(generator: Generator) -> None:
    torch.manual_seed(1)
    first = generator.sample([3], 4, Reinject(1.5)).ids
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(generator.sample([3], 4, Reinject(1.5)).ids, first)


def test_length_steps_and_guidance_change_the_sample(generator: Generator) -> None:
    assert generator.sample([1], 2).ids.shape == (1, 12) and generator.sample([1], 2, length=20).ids.shape == (1, 20)
    one, three = (generator.sample([1], 4, self_cond_guidance=w).trace for w in (1.0, 3.0))
    assert len(one.states) == 4 and not torch.equal(one.z, three.z)


def test_a_frozen_codec_stays_in_eval_mode(generator: Generator) -> None:
    assert not generator.train().codec.training
    generator.eval()


@pytest.mark.integration
@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_without_self_conditioned_or_decoding_rows_has_a_loss(generator: Generator, rows: int) -> None:
    ids = torch.randint(40, (rows, 12), generator=torch.Generator().manual_seed(0))
    for seed in range(12):  # of each kind of row there are none, some and all
        torch.manual_seed(seed)
        loss = generator.losses(generator.net, Batch(ids, torch.ones_like(ids, dtype=torch.bool)))["loss"]
        assert loss.isfinite() and loss > 0


def pairs(count: int, generator: torch.Generator) -> Batch:
    """Pairs whose target is the reversed source."""
    source = torch.randint(2, VOCAB, (count, HALF), generator=generator)
    ids = torch.cat([source, source.flip(1)], 1)
    return Batch(ids, torch.ones_like(ids).bool(), torch.arange(2 * HALF)[None].expand_as(ids) < HALF)


@pytest.mark.slow
def test_answers_are_right_with_their_sources_alone() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = Generator(
        VOCAB,
        codec=lambda vocab: EmbeddingTable(vocab, 16),
        net=lambda codec: ELF(codec, width=64, depth=3, heads=2, bottleneck=16),
        objective=ELFObjective(decode_noise_scale=1.0, row_assignment="stratified", loss_space="x0"),
        path=LinearPath(1.0),
        prompt_dropout=0.1,
    )
    model.text_format = TextFormat(None, 2 * HALF, HALF)
    optimizer = MuonAdam(model.net.named_parameters(), lr=5e-3)
    for _ in range(1200):
        optimizer.zero_grad()
        model.losses(model.net, pairs(64, generator))["loss"].backward()
        optimizer.step()
        update_ema(model.net, model.ema_net, 0.99)
    test = pairs(200, generator)
    target, seeds = ~test.prompt_mask, list(range(200))

    def accuracy(prompt_mask: torch.Tensor, scale: float) -> float:
        ids = model.complete(test.ids, prompt_mask, seeds, 8, Euler(), cfg_scale=scale)
        return float((ids == test.ids)[target].double().mean())

    answered, guided = (accuracy(test.prompt_mask, scale) for scale in (1.0, 2.0))
    assert answered > 0.8 and guided > answered - 0.02, (answered, guided)
    assert accuracy(test.prompt_mask & False, 1.0) < 0.2  # a token of 22 by chance
