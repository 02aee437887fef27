"""Text <-> latents."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import T5Config, T5EncoderModel

from tests.helpers.random_texts import random_ids
from textflow.codecs import EmbeddingTable, T5Codec, TransformerCodec
from textflow.codecs.hosted import MASKED_BIAS, attention_bias


def transformer_codec(**options: float) -> TransformerCodec:
    torch.manual_seed(0)
    return TransformerCodec(20, dim=6, width=16, heads=2, **options)


def statistics(codec: TransformerCodec) -> list[torch.Tensor]:
    return [codec.norm.running_mean.clone(), codec.norm.running_var.clone(), codec.norm.num_batches_tracked.clone()]


def test_a_table_decodes_its_embeddings_also_under_noise() -> None:
    torch.manual_seed(0)
    codec, ids = EmbeddingTable(50, 64), random_ids(4, 30, 50)
    x = codec.encode(ids)
    assert torch.equal(codec.decode_logits(x).argmax(-1), ids)
    assert torch.equal(codec.decode_logits(x + 0.3 * torch.randn_like(x)).argmax(-1), ids)
    assert_close(x.norm(dim=-1), torch.full((4, 30), 8.0))


def test_a_random_table_needs_no_training_and_a_trainable_one_does() -> None:
    assert EmbeddingTable(5, 4).is_trained and not any(p.requires_grad for p in EmbeddingTable(5, 4).parameters())
    codec = EmbeddingTable(5, 4, trainable=True)
    assert not codec.is_trained and codec.table.requires_grad
    codec.eval().encode(random_ids(1, 2, 5))
    assert not codec.is_trained
    codec.train().encode(random_ids(1, 2, 5))
    assert codec.is_trained


def test_running_statistics_change_in_training_only() -> None:
    codec, ids = transformer_codec(), random_ids(8, 12, 20)
    before = statistics(codec)
    codec.train().encode(ids)
    trained = statistics(codec)
    assert not any(torch.equal(a, b) for a, b in zip(before, trained, strict=True)) and codec.is_trained
    codec.eval().encode(ids)
    assert all(torch.equal(a, b) for a, b in zip(trained, statistics(codec), strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_padding_has_zero_latents_and_changes_no_statistics(training: bool) -> None:
    mask = torch.arange(12)[None].expand(8, 12) < 7
    ids, results = random_ids(8, 12, 20), []
    for padded_ids in (ids, torch.where(mask, ids, 3)):
        codec = transformer_codec(token_mask_prob=0.0).train(training)
        results.append([codec.encode(padded_ids, mask), *statistics(codec)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not results[0][0][~mask].any() and results[0][0][mask].all(-1).all()


def test_a_short_row_has_the_latents_of_the_padded_row() -> None:
    codec, ids = transformer_codec().eval(), random_ids(2, 12, 20)
    mask = torch.arange(12)[None].expand(2, 12) < 7
    assert_close(codec.encode(ids, mask)[:, :7], codec.encode(ids[:, :7]), rtol=1e-5, atol=1e-5)


def test_latents_are_contextual() -> None:
    codec, ids = transformer_codec().eval(), random_ids(1, 12, 20)
    other = ids.clone()
    other[0, 0] = (ids[0, 0] + 1) % 20
    assert not torch.allclose(codec.encode(ids)[0, 5], codec.encode(other)[0, 5])


def test_latents_do_not_depend_on_masked_tokens() -> None:
    torch.manual_seed(1)
    codec = transformer_codec(token_mask_prob=1.0).train()
    assert torch.equal(codec.encode(random_ids(4, 12, 20)), codec.encode(random_ids(4, 12, 20) * 0))


@pytest.mark.parametrize("token_mask_prob", [0.0, 0.5, 1.0])
def test_latents_and_statistics_are_those_of_batch_norm_over_the_unmasked_tokens(token_mask_prob: float) -> None:
    codec = transformer_codec(token_mask_prob=token_mask_prob).double().train()
    ids, mask = random_ids(8, 12, 20), torch.arange(12)[None].expand(8, 12) < 7
    norm, outputs = nn.BatchNorm1d(6, affine=False, momentum=0.01).double(), list[torch.Tensor]()
    codec.to_latent.register_forward_hook(lambda part, inputs, output: outputs.append(output))
    torch.manual_seed(1)
    unmasked = mask & (torch.rand(8, 12) >= token_mask_prob)
    torch.manual_seed(1)
    x = codec.encode(ids, mask)
    valid = unmasked if unmasked.any() else mask
    assert_close(x[valid], norm(outputs[0][valid]), rtol=1e-9, atol=1e-9)
    var, mean = torch.var_mean(outputs[0][valid], 0, correction=0)
    assert_close(x[mask], ((outputs[0] - mean) * (var + norm.eps).rsqrt())[mask], rtol=1e-9, atol=1e-9)
    expected = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    assert_close(statistics(codec), expected, rtol=1e-9, atol=1e-12)
    assert not x[~mask].any()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("t5")
    config = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.1)
    T5EncoderModel(config).save_pretrained(folder)
    return folder


@pytest.mark.integration
def test_latents_of_t5_are_those_of_transformers(encoder: Path) -> None:
    codec, ids = T5Codec(28, str(encoder), dim=16, mean=0.1, std=0.5), random_ids(3, 9, 28)
    mask = torch.arange(9)[None].expand(3, 9) < torch.tensor([[9], [5], [1]])
    own = T5EncoderModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        states = own(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        plain = own(input_ids=ids).last_hidden_state
    for _ in range(2):  # no dropout, also in training mode
        assert_close(codec.train().encode(ids, mask)[mask], ((states - 0.1) / 0.5)[mask], rtol=1e-5, atol=1e-5)
    assert_close(codec.encode(ids), (plain - 0.1) / 0.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("lengths", [[9, 5, 1], [9, 9, 9]])
def test_an_attention_bias_gives_the_states_of_a_mask(encoder: Path, attention: str, lengths: list[int]) -> None:
    own, ids = T5EncoderModel.from_pretrained(encoder, attn_implementation=attention).eval(), random_ids(3, 9, 28)
    mask = torch.arange(9)[None] < torch.tensor(lengths)[:, None]
    bias = torch.where(mask[:, None, None], 0.0, MASKED_BIAS)
    masks = [mask.long(), attention_bias(mask), attention_bias(mask[:, None].expand(-1, 9, -1)), bias]
    with torch.no_grad():
        expected, *states = (own(input_ids=ids, attention_mask=part).last_hidden_state[mask] for part in masks)
    for one in states:
        assert_close(one, expected, rtol=1e-6, atol=1e-6)


def test_a_mask_is_checked_only_on_a_cpu() -> None:
    full = torch.ones(2, 3, dtype=torch.bool)
    assert all(attention_bias(mask) is None for mask in (None, full, full[:, None].expand(-1, 3, -1)))
    bias = attention_bias(full.to("meta"))
    assert bias is not None and bias.shape == (2, 1, 1, 3)


def test_t5_is_loaded_late_and_never_saved_or_trained(encoder: Path) -> None:
    codec = T5Codec(28, str(encoder), dim=16)
    assert codec.encoder is None
    codec.encode(random_ids(1, 3, 28))
    assert not list(codec.parameters()) and not codec.state_dict()


def test_a_missing_t5_is_refused_with_the_option_to_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no T5 encoder at .*nowhere.*--model\.codec\.name"):
        T5Codec(28, str(tmp_path / "nowhere"), dim=16).encode(random_ids(1, 3, 28))


@pytest.mark.parametrize("changed", [{"dim": 12}, {"vocab_size": 31}])
def test_a_t5_of_another_size_is_refused(encoder: Path, changed: dict[str, int]) -> None:
    codec = T5Codec(**{"vocab_size": 28, "name": str(encoder), "dim": 16, **changed})
    with pytest.raises(ValueError, match=r"width 16 and 30 tokens.*--model\.codec\.dim"):
        codec.encode(random_ids(1, 3, 28))


def test_t5_has_no_decoder() -> None:
    with pytest.raises(ValueError, match="FromNet"):
        T5Codec(28, dim=16).decode_logits(torch.zeros(1, 2, 16))
