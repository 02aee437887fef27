"""The autoencoder trains a codec whose readout withstands the path's own noise."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from textflow.codecs import Codec, EmbeddingTable, TransformerCodec
from textflow.models.autoencoder import Autoencoder
from textflow.paths import LinearPath
from textflow.schedules import Uniform
from textflow.types import Batch, Ids, Latents, Logits, Mask

VOCAB = 24


def batch(rows: int = 16, length: int = 10) -> Batch:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(VOCAB, (rows, length), generator=draw)
    return Batch(ids, torch.arange(length)[None].expand(rows, length) < torch.arange(rows)[:, None] % length + 1)


def codec(vocab: int) -> Codec:
    return TransformerCodec(vocab, dim=8, width=32, heads=2)


def test_a_few_steps_lower_the_loss_and_find_more_tokens() -> None:
    torch.manual_seed(0)
    model, text = Autoencoder(VOCAB, codec, LinearPath(1.0)), batch()
    assert not model.net.is_trained
    made = model.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(120):
        losses = model.losses(model.net, text)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        schedule.step()
        found.append((losses["loss"].item(), losses["accuracy"].item()))
    first, last = (torch.tensor(part).mean(0) for part in (found[:10], found[-10:]))
    assert first[0] > 0.8 * math.log(VOCAB), "it knew the text before"
    assert last[0] < 0.8 * first[0] and last[1] > first[1] + 0.15
    assert model.net.is_trained


class Recorder(Codec):
    """Latents are 1, the readout keeps what it is shown and knows one token only."""

    def __init__(self, vocab: int, known: int = 3) -> None:
        super().__init__()
        self.vocab_size, self.dim, self.known = vocab, 4, known
        self.own = torch.nn.Parameter(torch.zeros(()))
        self.shown: list[Tensor] = []

    def encode(self, ids: Ids, mask: Mask | None = None) -> Latents:
        return torch.ones(*ids.shape, self.dim)

    def decode_logits(self, z: Latents) -> Logits:
        self.shown.append(z.detach())
        return self.own + 5.0 * torch.eye(self.vocab_size)[self.known].expand(*z.shape[:2], self.vocab_size)

    @property
    def is_trained(self) -> bool:
        return True


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_the_noise_is_that_of_the_path(scale: float) -> None:
    """p x + (1 - p) scale eps at x = 1 and p uniform: mean 1/2, variance 1/12 + scale^2 / 3."""
    torch.manual_seed(0)
    model, ids = Autoencoder(VOCAB, Recorder, LinearPath(scale), Uniform()), torch.zeros(200, 50, dtype=torch.int64)
    model.losses(model.net, Batch(ids, ids == 0))
    z = model.net.shown[0].double()
    variance = 1 / 12 + scale**2 / 3
    assert abs(float(z.mean()) - 0.5) < 5 * math.sqrt(variance / 10_000)
    assert float(z.var()) == pytest.approx(variance, rel=0.05)


def test_the_share_is_drawn_a_position_and_not_a_coordinate() -> None:
    torch.manual_seed(0)
    model, ids = Autoencoder(VOCAB, Recorder, LinearPath(0.0)), torch.zeros(20, 30, dtype=torch.int64)
    model.losses(model.net, Batch(ids, ids == 0))
    share = model.net.shown[0]
    assert torch.equal(share, share[..., :1].expand_as(share))
    assert len(share[..., 0].unique()) > 590


def test_only_text_counts() -> None:
    text, model = batch(), Autoencoder(VOCAB, Recorder)
    known = Batch(torch.where(text.mask, 3, 7), text.mask)
    losses = model.losses(model.net, known)
    assert losses["accuracy"] == 1
    assert_close(losses["loss"].detach(), torch.tensor(math.log(1 + (VOCAB - 1) * math.exp(-5))), rtol=1e-5, atol=1e-6)
    assert model.losses(model.net, Batch(torch.where(text.mask, 7, 3), text.mask))["accuracy"] == 0


def test_a_random_table_has_nothing_to_train_and_a_learned_one_has() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        Autoencoder(VOCAB, lambda vocab: EmbeddingTable(vocab, 8)).configure_optimizers()
    model = Autoencoder(VOCAB, lambda vocab: EmbeddingTable(vocab, 8, trainable=True))
    model.losses(model.net, batch())["loss"].backward()
    assert model.net.table.grad is not None and model.net.table.grad.abs().sum() > 0
