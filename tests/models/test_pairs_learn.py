"""A flow learns to answer: with its source it is right, without it is not."""

import pytest
import torch

from textflow.codecs import EmbeddingTable
from textflow.models.generator import Generator
from textflow.nets import ELF
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.samplers import Euler
from textflow.training import MuonAdam
from textflow.training.ema import update_ema
from textflow.types import Batch

VOCAB, HALF = 24, 4


def pairs(count: int, stream: torch.Generator) -> Batch:
    """Targets that are their sources backwards."""
    source = torch.randint(2, VOCAB, (count, HALF), generator=stream)
    ids = torch.cat([source, source.flip(1)], 1)
    return Batch(ids, torch.ones_like(ids).bool(), torch.arange(2 * HALF)[None].expand_as(ids) < HALF)


@pytest.mark.slow
def test_an_answer_is_the_sources_own_and_guidance_makes_it_surer() -> None:
    torch.manual_seed(0)
    stream = torch.Generator().manual_seed(0)
    made = Generator(
        VOCAB,
        codec=lambda vocab: EmbeddingTable(vocab, 16),
        net=lambda codec: ELF(codec, width=64, depth=3, heads=2, bottleneck=16),
        objective=ELFObjective(decode_noise_scale=1.0, row_assignment="stratified", loss_space="x0"),
        path=LinearPath(1.0),
        prompt_dropout=0.1,
    )
    made.max_source_length, made.seq_length = HALF, 2 * HALF
    optimizer = MuonAdam(made.net.named_parameters(), lr=5e-3)
    for _ in range(1200):
        optimizer.zero_grad()
        made.losses(made.net, pairs(64, stream))["loss"].backward()
        optimizer.step()
        update_ema(made.net, made.ema_net, 0.99)
    test = pairs(200, stream)
    target, seeds = ~test.prompt_mask, list(range(200))

    def right(fixed: torch.Tensor, scale: float) -> float:
        ids = made.complete(test.ids, fixed, seeds, 8, Euler(), cfg_scale=scale)
        return float((ids == test.ids)[target].double().mean())

    answered, guided, alone = (
        right(test.prompt_mask, 1.0),
        right(test.prompt_mask, 2.0),
        right(test.prompt_mask & False, 1.0),
    )
    assert answered > 0.8 and guided > answered - 0.02, (answered, guided)
    assert alone < 0.2  # a token of 22 by chance
