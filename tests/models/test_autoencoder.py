"""The autoencoder trains a codec whose readout withstands the path's own noise."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from textflow.codecs import Codec, EmbeddingTable, TransformerCodec
from textflow.models.autoencoder import Autoencoder
from textflow.objectives import NoisyReconstruction
from textflow.paths import LinearPath
from textflow.schedules import TimeSchedule, Uniform
from textflow.training import MuonAdam, WarmupLR
from textflow.types import Batch, Ids, Latents, Logits, Mask

VOCAB = 24


def batch(rows: int = 16, length: int = 10) -> Batch:
    ids = torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(0))
    return Batch(ids, torch.arange(length)[None].expand(rows, length) < torch.arange(rows)[:, None] % length + 1)


@pytest.mark.integration
def test_training_lowers_the_loss_and_raises_the_accuracy() -> None:
    torch.manual_seed(0)
    model = Autoencoder(
        VOCAB,
        lambda vocab: TransformerCodec(vocab, dim=8, width=16, heads=2),
        path=LinearPath(1.0),
        optimizer=lambda params: MuonAdam(params, lr=3e-2, adam_names="embed"),
        lr_scheduler=lambda optimizer: WarmupLR(optimizer, warmup_steps=10),
    )
    assert not model.net.is_trained
    parts = model.configure_optimizers()
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    history = []
    for _ in range(60):
        losses = model.losses(model.net, batch())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        schedule.step()
        history.append((losses["loss"].item(), losses["accuracy"].item()))
    first, last = (torch.tensor(part).mean(0) for part in (history[:5], history[-10:]))
    assert first[0] > 0.8 * math.log(VOCAB), "the loss was low before training"
    assert last[0] < 0.8 * first[0] and last[1] > first[1] + 0.15
    assert model.net.is_trained


class Recorder(Codec):
    """A codec whose latents are 1 and whose readout always prefers token 3; it records the noisy latents."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.vocab_size, self.dim = vocab, 4
        self.bias = torch.nn.Parameter(torch.zeros(()))
        self.noisy = torch.empty(0)

    def encode(self, ids: Ids, mask: Mask | None = None) -> Latents:
        return torch.ones(*ids.shape, self.dim)

    def decode_logits(self, z: Latents) -> Logits:
        self.noisy = z.detach()
        return self.bias + 5.0 * torch.eye(self.vocab_size)[3].expand(*z.shape[:2], self.vocab_size)

    @property
    def is_trained(self) -> bool:
        return True


def noisy_latents(path: LinearPath, law: TimeSchedule | None = None) -> Tensor:
    torch.manual_seed(0)
    model, ids = Autoencoder(VOCAB, Recorder, NoisyReconstruction(law), path), torch.zeros(200, 50, dtype=torch.int64)
    model.losses(model.net, Batch(ids, ids == 0))
    return model.net.noisy.double()


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_the_noise_is_that_of_the_path(scale: float) -> None:
    """p x + (1 - p) scale eps at x = 1 and p uniform: mean 1/2, variance 1/12 + scale^2 / 3."""
    z, variance = noisy_latents(LinearPath(scale), Uniform()), 1 / 12 + scale**2 / 3
    assert abs(float(z.mean()) - 0.5) < 5 * math.sqrt(variance / 10_000)
    assert float(z.var()) == pytest.approx(variance, rel=0.05)


def test_each_position_has_one_clean_fraction_for_all_coordinates() -> None:
    fraction = noisy_latents(LinearPath(0.0))
    assert torch.equal(fraction, fraction[..., :1].expand_as(fraction))
    assert len(fraction[..., 0].unique()) > 9800


def test_the_loss_ignores_padding() -> None:
    mask, model = batch().mask, Autoencoder(VOCAB, Recorder)
    right, wrong = (model.losses(model.net, Batch(torch.where(mask, *ids), mask)) for ids in ((3, 7), (7, 3)))
    assert right["accuracy"] == 1 and wrong["accuracy"] == 0
    assert_close(right["loss"].detach(), torch.tensor(math.log(1 + (VOCAB - 1) * math.exp(-5))), rtol=1e-5, atol=1e-6)


def test_a_random_table_has_nothing_to_train_and_a_trainable_one_has() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        Autoencoder(VOCAB, lambda vocab: EmbeddingTable(vocab, 8)).configure_optimizers()
    model = Autoencoder(VOCAB, lambda vocab: EmbeddingTable(vocab, 8, trainable=True))
    model.losses(model.net, batch())["loss"].backward()
    assert model.net.table.grad is not None and model.net.table.grad.abs().sum() > 0
