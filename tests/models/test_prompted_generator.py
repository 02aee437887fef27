"""A generator trains on prompts and answers them."""

import pytest
import torch

from tests.helpers.tiny_generator import untrained
from textflow.codecs import EmbeddingTable, encode_batch
from textflow.models.generator import Generator
from textflow.objectives import ELFObjective
from textflow.samplers import Euler, Reinject, Sampler
from textflow.samplers.prompt import Prompt
from textflow.types import AttentionMask, Batch


class Seen(EmbeddingTable):
    """Remembers who was said to see whom."""

    seen: AttentionMask | None = None

    def encode(self, ids, mask=None):
        self.seen = mask if mask is not None and mask.ndim == 3 else None
        return super().encode(ids)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return untrained(
        codec=lambda vocab: Seen(vocab, 8), objective=ELFObjective(loss_on_padding=True), prompt_dropout=0.5
    )


IDS = torch.randint(40, (16, 12), generator=torch.Generator().manual_seed(1))
FIXED = torch.arange(12)[None].expand(16, 12) < 5
BATCH = Batch(IDS, torch.ones_like(FIXED), FIXED)


def test_half_of_the_prompts_are_dropped(generator: Generator) -> None:
    torch.manual_seed(0)
    x = encode_batch(generator.codec, generator.drop_prompts(BATCH))
    lost = (x[:, :5] == 0).all(-1).all(-1)
    assert 2 < int(lost.sum()) < 14 and (x[:, 5:] != 0).any(-1).all()
    seen = generator.codec.seen
    assert torch.equal(seen[:, 6, 0], ~lost) and not seen[:, 0, 5:].any()


def test_a_loss_with_prompts_is_finite_and_without_them_as_before(generator: Generator) -> None:
    torch.manual_seed(0)
    assert generator.losses(generator.net, BATCH)["loss"].isfinite()
    plain = Batch(IDS, torch.ones_like(FIXED))
    assert torch.equal(encode_batch(generator.codec, plain), generator.codec.encode(IDS))


@pytest.mark.parametrize("sampler", [Euler(), Reinject(1.5)], ids=str)
def test_prompts_stay_and_are_answered_row_by_row(generator: Generator, sampler: Sampler) -> None:
    clean, seeds = encode_batch(generator.codec, BATCH), list(range(16))
    made = generator.sample(seeds, 4, sampler, prompt=Prompt(clean, FIXED, 2.0))
    assert torch.equal(made.trace.z[:, :5], clean[:, :5])
    alone = generator.sample([3], 4, sampler, prompt=Prompt(clean[3:4], FIXED[3:4], 2.0))
    assert torch.equal(alone.ids, made.ids[3:4])
    other = generator.sample(seeds, 4, sampler, prompt=Prompt(clean.flip(0), FIXED, 2.0))
    assert not torch.allclose(other.trace.z[:, 5:], made.trace.z[:, 5:], atol=1e-3)
    unguided = generator.sample(seeds, 4, sampler, prompt=Prompt(clean, FIXED))
    assert not torch.equal(unguided.trace.z, made.trace.z)
