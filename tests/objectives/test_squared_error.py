"""Squared error of the clean prediction, on latents of which the best prediction is known."""

import pytest
import torch

from tests.helpers.random_texts import chain_texts, random_ids, small_chain
from textflow.codecs import EmbeddingTable, Resampler
from textflow.nets import Denoiser, UNetBERT
from textflow.objectives import SquaredError
from textflow.oracle import ExactPosterior
from textflow.paths import ProbPath, TangentPath
from textflow.types import Batch, Latents


@torch.no_grad()
def row_errors(net: Denoiser, path: ProbPath, x: Latents) -> torch.Tensor:
    """Squared error of each row, by the same draws for every net."""
    torch.manual_seed(1)
    draws = SquaredError().sample_draws(x)
    return (net(path.mix(x, draws.eps, draws.t), draws.t).mean - x).square().mean((1, 2))


@pytest.mark.slow
def test_a_trained_net_reaches_the_error_of_the_exact_posterior() -> None:
    (prior, codec), length, path = small_chain(), 3, TangentPath(1.0)
    torch.manual_seed(0)
    net, exact = UNetBERT(codec, width=32, depth=2, heads=2, dropout=0.0), ExactPosterior(prior, codec, path)
    data, objective = codec.encode(chain_texts(prior, 2048, length, 0)).float(), SquaredError(self_cond_prob=0.5)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, 400)
    for _ in range(400):
        x = data[torch.randint(len(data), (128,))]
        valid = torch.ones(x.shape[:2], dtype=torch.bool)
        optimizer.zero_grad()
        objective.loss(net, path, x, Batch(valid.long(), valid), objective.sample_draws(x))["loss"].backward()
        optimizer.step()
        schedule.step()
    held_out = codec.encode(chain_texts(prior, 400, length, 10**6)).float()
    best = row_errors(exact, path, held_out)
    gap = row_errors(net.eval(), path, held_out) - best
    interval = 2 * float(best.std()) / len(best) ** 0.5  # of the known optimum, by the rows at hand
    assert -2 * float(gap.std()) / len(best) ** 0.5 < float(gap.mean()) < interval


def test_padding_and_prompts_have_no_loss_and_latents_need_not_be_tokens() -> None:
    torch.manual_seed(0)
    ids, objective = random_ids(4, 6, 9), SquaredError(self_cond_prob=0.5)
    mask, path = torch.arange(6).expand(4, 6) < 4, TangentPath()
    table = EmbeddingTable(9, 6)
    net = UNetBERT(table, width=8, depth=2, heads=2, dropout=0.0)

    def loss(batch: Batch, **options: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        return SquaredError(self_cond_prob=0.5, **options)(net, table, path, batch, 0)

    assert (
        int(loss(Batch(ids, mask))["tokens"]) == 16
        and int(loss(Batch(ids, mask), loss_on_padding=True)["tokens"]) == 24
    )
    prompt = torch.arange(6).expand(4, 6) < 1
    assert int(loss(Batch(ids, mask, prompt))["tokens"]) == 12
    few = Resampler(9, 6, latents=2, length=6, width=8, heads=2).eval()
    assert int(objective(net, few, path, Batch(ids, mask), 0)["tokens"]) == 8
