"""The variational autoencoder trains a text VAE: reconstruction, divergence, hidden tokens."""

from typing import Any

import pytest
import torch
from torch import Tensor

from textflow.codecs import EmbeddingTable, TextVAE
from textflow.models.autoencoder import Autoencoder
from textflow.objectives import VariationalReconstruction
from textflow.types import Batch

VOCAB = 12
SIZES: dict[str, Any] = {"dim": 4, "width": 16, "mlp_width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2}


def text(rows: int = 16, length: int = 8) -> Batch:
    """Rows that count up from a random token."""
    ids = (torch.arange(length) + torch.randint(VOCAB - 1, (rows, 1))) % (VOCAB - 1)
    return Batch(ids, torch.arange(length)[None].expand(rows, length) < length - 2)


def trained(steps: int, **options: Any) -> tuple[Autoencoder, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    objective = VariationalReconstruction(**options)
    model = Autoencoder(VOCAB, lambda vocab: TextVAE(vocab, **SIZES, block_size=4), objective)
    optimizer = torch.optim.Adam(model.net.parameters(), 2e-2)
    history = []
    for _ in range(steps):
        history.append(losses := model.losses(model.net, text()))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    return model, history


@pytest.mark.integration
def test_training_lowers_both_cross_entropies_and_marks_the_codec_as_trained() -> None:
    model, history = trained(60)
    assert model.net.is_trained and not TextVAE(VOCAB, **SIZES).is_trained
    assert float(history[-1]["nll"]) < 0.7 * float(history[0]["nll"])
    assert float(history[-1]["hidden_nll"]) < float(history[0]["hidden_nll"]) - 0.2
    assert float(history[-1]["accuracy"]) > float(history[0]["accuracy"]) + 0.4


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    losses = trained(1, kl_weight=0.5, mask_weight=2.0)[1][0]
    expected = losses["nll"] + 0.5 * losses["kl"] + 2.0 * losses["hidden_nll"]
    torch.testing.assert_close(losses["loss"].detach(), expected)
    assert "hidden_nll" not in trained(1, mask_weight=0.0)[1][0]


@pytest.mark.integration
def test_a_larger_divergence_weight_leaves_more_noise_in_the_latents() -> None:
    little, much = (trained(60, kl_weight=weight)[1][-1]["log_snr"] for weight in (0.0, 0.3))
    assert much < little - 1


def test_other_codecs_and_impossible_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="trains a TextVAE, not EmbeddingTable"):
        Autoencoder(VOCAB, lambda vocab: EmbeddingTable(vocab, trainable=True), VariationalReconstruction())
    with pytest.raises(ValueError, match="mask_prob is 1"):
        trained(1, mask_prob=1.0)
