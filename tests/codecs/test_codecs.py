"""Text <-> latents."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import T5Config, T5EncoderModel

from textflow.codecs import EmbeddingTable, T5Codec, TransformerCodec
from textflow.codecs.t5 import MASKED_BIAS, attention_bias


def ids_of(rows: int, length: int, vocab: int) -> torch.Tensor:
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(0))


def learned(**options: float) -> TransformerCodec:
    torch.manual_seed(0)
    return TransformerCodec(20, dim=6, width=16, heads=2, **options)


def statistics(codec: TransformerCodec) -> list[torch.Tensor]:
    return [codec.norm.running_mean.clone(), codec.norm.running_var.clone(), codec.norm.num_batches_tracked.clone()]


def test_the_tables_readout_inverts_its_codes_even_in_noise() -> None:
    torch.manual_seed(0)
    codec, ids = EmbeddingTable(50, 64), ids_of(4, 30, 50)
    x = codec.encode(ids)
    assert torch.equal(codec.decode_logits(x).argmax(-1), ids)
    assert torch.equal(codec.decode_logits(x + 0.3 * torch.randn_like(x)).argmax(-1), ids)
    assert_close(x.norm(dim=-1), torch.full((4, 30), 8.0))


def test_a_random_table_is_not_trained_and_a_learned_one_must_be() -> None:
    assert EmbeddingTable(5, 4).is_trained and not any(p.requires_grad for p in EmbeddingTable(5, 4).parameters())
    codec = EmbeddingTable(5, 4, trainable=True)
    assert not codec.is_trained and codec.table.requires_grad
    codec.eval().encode(ids_of(1, 2, 5))
    assert not codec.is_trained
    codec.train().encode(ids_of(1, 2, 5))
    assert codec.is_trained


def test_statistics_move_in_training_and_stand_still_after() -> None:
    codec, ids = learned(), ids_of(8, 12, 20)
    before = statistics(codec)
    codec.train().encode(ids)
    trained = statistics(codec)
    assert not any(torch.equal(a, b) for a, b in zip(before, trained, strict=True)) and codec.is_trained
    codec.eval().encode(ids)
    assert all(torch.equal(a, b) for a, b in zip(trained, statistics(codec), strict=True))


@pytest.mark.parametrize("hide", [0.0, 0.5])
def test_latents_of_the_seen_tokens_have_mean_0_and_variance_1_in_training(hide: float) -> None:
    codec, ids = learned(token_mask_prob=hide).train(), ids_of(64, 12, 20)
    torch.manual_seed(1)
    seen = torch.rand(64, 12) >= hide
    torch.manual_seed(1)
    x = codec.encode(ids)[seen].double()
    assert_close(x.mean(0), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-5)
    assert_close(x.var(0, correction=0), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_padding_carries_nothing_and_moves_nothing(training: bool) -> None:
    mask = torch.arange(12)[None].expand(8, 12) < 7
    ids, results = ids_of(8, 12, 20), []
    for filled in (ids, torch.where(mask, ids, 3)):
        codec = learned(token_mask_prob=0.0).train(training)
        results.append([codec.encode(filled, mask), *statistics(codec)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not results[0][0][~mask].any() and results[0][0][mask].all(-1).all()


def test_a_short_row_alone_is_the_same_row_with_padding() -> None:
    codec, ids = learned().eval(), ids_of(2, 12, 20)
    mask = torch.arange(12)[None].expand(2, 12) < 7
    assert_close(codec.encode(ids, mask)[:, :7], codec.encode(ids[:, :7]), rtol=1e-5, atol=1e-5)


def test_latents_are_contextual() -> None:
    codec, ids = learned().eval(), ids_of(1, 12, 20)
    other = ids.clone()
    other[0, 0] = (ids[0, 0] + 1) % 20
    assert not torch.allclose(codec.encode(ids)[0, 5], codec.encode(other)[0, 5])


def test_hidden_tokens_do_not_reach_the_latents() -> None:
    torch.manual_seed(1)
    codec = learned(token_mask_prob=1.0).train()
    assert torch.equal(codec.encode(ids_of(4, 12, 20)), codec.encode(ids_of(4, 12, 20) * 0))


@pytest.mark.parametrize("hide", [0.0, 0.5, 1.0])
def test_latents_and_statistics_are_those_of_batch_norm_over_the_seen_tokens(hide: float) -> None:
    codec, ids, mask = (
        learned(token_mask_prob=hide).double().train(),
        ids_of(8, 12, 20),
        torch.arange(12)[None].expand(8, 12) < 7,
    )
    own, narrow = nn.BatchNorm1d(6, affine=False, momentum=0.01).double(), list[torch.Tensor]()
    codec.to_latent.register_forward_hook(lambda part, inputs, output: narrow.append(output))
    torch.manual_seed(1)
    seen = mask & (torch.rand(8, 12) >= hide)
    torch.manual_seed(1)
    x = codec.encode(ids, mask)
    known = seen if seen.any() else mask
    assert_close(x[known], own(narrow[0][known]), rtol=1e-9, atol=1e-9)
    var, mean = torch.var_mean(narrow[0][known], 0, correction=0)
    assert_close(x[mask], ((narrow[0] - mean) * (var + own.eps).rsqrt())[mask], rtol=1e-9, atol=1e-9)
    for one, other in zip(statistics(codec), [own.running_mean, own.running_var, own.num_batches_tracked], strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert not x[~mask].any()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("t5")
    config = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.1)
    T5EncoderModel(config).save_pretrained(folder)
    return folder


def test_latents_of_t5_are_transformers_own(encoder: Path) -> None:
    codec, ids = T5Codec(28, str(encoder), dim=16, mean=0.1, std=0.5), ids_of(3, 9, 28)
    mask = torch.arange(9)[None].expand(3, 9) < torch.tensor([[9], [5], [1]])
    own = T5EncoderModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        states = own(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        plain = own(input_ids=ids).last_hidden_state
    for _ in range(2):  # no dropout, also in training mode
        assert_close(codec.train().encode(ids, mask)[mask], ((states - 0.1) / 0.5)[mask], rtol=1e-5, atol=1e-5)
    assert_close(codec.encode(ids), (plain - 0.1) / 0.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("given", ["prefix", "everything"])
def test_a_mask_of_scores_gives_the_states_of_transformers_own(encoder: Path, attention: str, given: str) -> None:
    own, ids = T5EncoderModel.from_pretrained(encoder, attn_implementation=attention).eval(), ids_of(3, 9, 28)
    mask = torch.arange(9)[None] < torch.tensor([[9], [5], [1]] if given == "prefix" else [[9], [9], [9]])
    sees = mask[:, None].expand(-1, 9, -1)
    told = [mask.long(), attention_bias(mask), attention_bias(sees), torch.where(mask[:, None, None], 0.0, MASKED_BIAS)]
    with torch.no_grad():
        states, *ours = (own(input_ids=ids, attention_mask=part).last_hidden_state for part in told)
    for one in ours:
        assert_close(one[mask], states[mask], rtol=1e-6, atol=1e-6)


def test_a_mask_is_looked_at_on_a_cpu_alone() -> None:
    every = torch.ones(2, 3, dtype=torch.bool)
    assert (
        attention_bias(None) is None
        and attention_bias(every) is None
        and attention_bias(every[:, None].expand(-1, 3, -1)) is None
    )
    far = attention_bias(every.to("meta"))
    assert far is not None and far.shape == (2, 1, 1, 3)


def test_t5_is_loaded_late_and_never_saved_or_trained(encoder: Path) -> None:
    codec = T5Codec(28, str(encoder), dim=16)
    assert codec.encoder is None
    codec.encode(ids_of(1, 3, 28))
    assert not list(codec.parameters()) and not codec.state_dict()


def test_a_t5_that_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no T5 encoder at .*nowhere.*--model\.codec\.name"):
        T5Codec(28, str(tmp_path / "nowhere"), dim=16).encode(ids_of(1, 3, 28))


@pytest.mark.parametrize("changed", [{"dim": 12}, {"vocab_size": 31}])
def test_a_t5_of_another_size_is_refused(encoder: Path, changed: dict[str, int]) -> None:
    codec = T5Codec(**{"vocab_size": 28, "name": str(encoder), "dim": 16, **changed})
    with pytest.raises(ValueError, match=r"width 16 and 30 tokens.*--model\.codec\.dim"):
        codec.encode(ids_of(1, 3, 28))


def test_t5_does_not_read() -> None:
    with pytest.raises(ValueError, match="FromNet"):
        T5Codec(28, dim=16).decode_logits(torch.zeros(1, 2, 16))
