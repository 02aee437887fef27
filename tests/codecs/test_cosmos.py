"""BERT's features, and the few latents that Cosmos makes of them."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig, BertModel

from tests.helpers.random_texts import random_ids
from textflow.codecs import BertCodec, CosmosCodec, EmbeddingTable, TransformerCodec
from textflow.models.autoencoder import Autoencoder
from textflow.objectives import FeatureReconstruction, LatentAugmentation
from textflow.types import Batch

LENGTH, VOCAB, MASK = 9, 28, 3
PADDED = torch.arange(LENGTH) < torch.tensor([[9], [5], [1]])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=30, max_position_embeddings=16, **sizes)).save_pretrained(folder)
    return folder


def bert(encoder: Path, **options: int) -> BertCodec:
    return BertCodec(VOCAB, str(encoder), dim=16, mask_id=MASK, **options)


def cosmos(encoder: Path, **options: object) -> CosmosCodec:
    torch.manual_seed(0)
    sizes = {"dim": 8, "latents": 4, "length": LENGTH, "depth": 2, "heads": 2}
    return CosmosCodec(VOCAB, **{"features": lambda vocab: bert(encoder), **sizes, **options})


def test_latents_of_bert_are_those_of_transformers(encoder: Path) -> None:
    codec, ids = bert(encoder), random_ids(3, LENGTH, VOCAB)
    own = BertModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        states = own(input_ids=ids, attention_mask=PADDED.long()).last_hidden_state
        hidden = own(input_ids=torch.full((1, LENGTH), MASK)).last_hidden_state
    for _ in range(2):  # no dropout, also in training mode
        assert_close(codec.train().encode(ids, PADDED)[PADDED], states[PADDED], rtol=1e-5, atol=1e-5)
    assert_close(codec.masked_states(LENGTH), hidden, rtol=1e-5, atol=1e-5)
    assert not list(codec.parameters()) and not codec.state_dict()


def test_a_missing_bert_is_refused_with_the_option_to_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no BERT encoder at .*nowhere.*--model\.codec\.features\.name"):
        cosmos(tmp_path / "nowhere").encode(random_ids(1, LENGTH, VOCAB))
    with pytest.raises(ValueError, match="encodes rows of 9 tokens, but got 4"):
        cosmos(tmp_path).encode(random_ids(1, 4, VOCAB))


def test_padding_changes_no_latent_and_no_statistic(encoder: Path) -> None:
    ids, found = random_ids(3, LENGTH, VOCAB), []
    for padded in (ids, torch.where(PADDED, ids, 7)):
        codec = cosmos(encoder).train()
        found.append([codec.encode(padded, PADDED), codec.feature_norm.running_var.clone(), codec.norm.running_mean])
    assert found[0][0].shape == (3, 4, 8)
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_latents_are_float32_also_under_autocast(encoder: Path) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert cosmos(encoder).train().encode(random_ids(3, LENGTH, VOCAB)).dtype == torch.float32


def test_a_trained_codec_decodes_without_its_encoder(encoder: Path) -> None:
    codec = cosmos(encoder).train()
    codec.encode(random_ids(3, LENGTH, VOCAB))
    assert_close(codec.masked_row, codec.features.masked_states(LENGTH)[0])
    other, z = cosmos(encoder / "nowhere"), torch.randn(2, 4, 8)
    other.load_state_dict(codec.state_dict())
    assert codec.is_trained and torch.equal(other.eval().decode_logits(z), codec.eval().decode_logits(z))


def test_damage_is_of_the_published_amount_in_the_published_rows() -> None:
    torch.manual_seed(0)
    damage, h = LatentAugmentation(latent_replace=0.25), torch.ones(4000, 6, 2)
    features, latents = damage.damage_features(h), damage.damage_latents(h)
    masked = (features == 0).any(2).any(1)
    assert 0.4 < float(masked.float().mean()) / (1 - 0.7**6) < 0.6  # half of the rows are masked, each feature at .3
    noised = features[~masked & (features != 1).all(2).all(1)]
    assert float(noised.mean()) == pytest.approx(0.91**0.5, abs=0.01)
    assert float(noised.std()) == pytest.approx(0.3, 0.05)
    replaced = ~((latents == 0) | (latents == 1)).flatten(1).any(1)
    assert float(replaced.float().mean()) == pytest.approx(0.5 * 0.25, abs=0.02)
    assert float((latents == 0).float().mean()) == pytest.approx(0.5 * 0.75 * 0.4, abs=0.02)


@pytest.mark.parametrize("kind", ["bert", "table", "learned"])
def test_the_autoencoder_trains_all_but_a_frozen_encoder(encoder: Path, kind: str) -> None:
    torch.manual_seed(0)
    made = {
        "bert": lambda vocab: bert(encoder),
        "table": lambda vocab: EmbeddingTable(vocab, 16),
        "learned": lambda vocab: TransformerCodec(vocab, 16, width=16, heads=2),
    }[kind]
    model = Autoencoder(VOCAB, lambda vocab: cosmos(encoder, features=made), FeatureReconstruction())
    ids = random_ids(6, LENGTH, VOCAB)
    values = model.train().losses(model.net, Batch(ids, ids >= 0))
    values["loss"].backward()
    still = {name for name, p in model.net.named_parameters() if p.grad is None}
    assert still == ({"features.table"} if kind == "table" else set())
    assert ("feature_nll" in values) == (kind == "learned")
    assert float(values["loss"].detach()) == pytest.approx(
        float(values["nll"] + values["feature_mse"] + values.get("feature_nll", 0.0)), rel=1e-5
    )
