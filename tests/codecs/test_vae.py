"""The text VAE: the published numbers, blocks, padding, what a prompt may see."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.cola_parts import cola_recording, recorded_vae
from tests.helpers.recordings import error
from textflow.codecs import Codec, TextVAE
from textflow.codecs.prefix_mask import prefix_attention_mask
from textflow.codecs.vae import Gaussian

SIZES = {"dim": 4, "width": 16, "mlp_width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2, "block_size": 3}


def vae(**options: int) -> TextVAE:
    torch.manual_seed(0)
    codec = TextVAE(11, **(SIZES | options))
    for p in codec.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return codec.eval()


def ids(rows: int = 2, length: int = 8) -> torch.Tensor:
    return torch.randint(10, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parity
def test_encoder_and_decoder_are_the_published_ones() -> None:
    tensors, config = cola_recording()
    codec, logits, means = recorded_vae(tensors, config), [], []
    for i in range(len(config["enc_lens"])):
        q = codec.posterior(tensors[f"enc.ids.{i}"][None])
        assert error(q.mean[0], tensors[f"enc.mean.{i}"]) < 2e-5
        assert error(q.log_var[0], tensors[f"enc.logvar.{i}"]) < 2e-5
        sample = q.at(tensors[f"enc.eps.{i}"][None])
        assert error(sample[0], tensors[f"enc.sample.{i}"]) < 2e-5
        logits.append(codec.decode_logits(sample)[0])
        means.append(codec.decode_logits(q.mean)[0])
    assert error(torch.cat(logits), tensors["dec.logits"]) < 2e-5
    text = torch.cat([tensors[f"enc.ids.{i}"] for i in range(len(means))])
    assert error(F.cross_entropy(torch.cat(means), text), tensors["vae.recon_loss"]) < 2e-5


@pytest.mark.parity
def test_blocks_decoded_one_after_another_are_the_published_ones() -> None:
    tensors, config = cola_recording()
    codec, past, logits = recorded_vae(tensors, config), None, []
    for block in tensors["enc.sample.0"][None].split(config["vae"]["block_size"], 1):
        logits.append(codec.decode_after(block, past))
        past = codec.extend_past(block, past)
    assert error(torch.cat(logits, 1)[0], tensors["dec.blockwise0"]) < 2e-5


@pytest.mark.parametrize("patch_size", [1, 2])
def test_a_latent_depends_on_its_block_and_those_before(patch_size: int) -> None:
    codec, text = vae(patch_size=patch_size), ids(length=12)
    changed = text.clone()
    changed[:, 3 * patch_size] = 10  # in latent 3, the first of the second block
    moved = (codec.encode(text) - codec.encode(changed)).abs().amax((0, 2)) > 1e-6
    assert not moved[:3].any() and moved[3:].all()
    assert codec.decode_logits(codec.encode(text)).shape == (2, 12, 11)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_the_tokens_of_one_latent_are_those_of_the_row(patch_size: int) -> None:
    codec, text = vae(patch_size=patch_size), ids(length=12)
    z = codec.encode(text)
    rows = codec.decode_logits(z).unflatten(1, (-1, patch_size))
    for at in (0, 4, -1):
        torch.testing.assert_close(codec.decode_after(z, None, at), rows[:, at])
        torch.testing.assert_close(Codec.decode_after(codec, z, None, at), rows[:, at])


def test_padding_is_seen_as_the_padding_token() -> None:
    codec, text = vae(), ids()
    mask = torch.arange(8)[None].expand(2, 8) < 4
    torch.testing.assert_close(codec.encode(text, mask), codec.encode(text.masked_fill(~mask, codec.pad_id)))


def test_a_prompt_sees_no_answer_and_the_answer_sees_the_prompt() -> None:
    codec, text = vae(), ids()
    prompt, mask = torch.arange(8)[None].expand(2, 8) < 4, torch.ones(2, 8, dtype=torch.bool)
    x = codec.encode(text, prefix_attention_mask(mask, prompt))
    torch.testing.assert_close(x[:, :4], codec.encode(text.masked_fill(~prompt, codec.pad_id))[:, :4])
    torch.testing.assert_close(x[:, 4:], codec.encode(text)[:, 4:])


@pytest.mark.integration
def test_a_draw_has_the_mean_and_variance_of_its_posterior() -> None:
    codec, text = vae(), ids()
    with torch.no_grad():
        q = codec.posterior(text)
        draws = torch.stack([codec.draw(text) for _ in range(400)])
    torch.testing.assert_close(draws.mean(0), q.mean, atol=0.35 * float(q.log_var.exp().max().sqrt()), rtol=0)
    torch.testing.assert_close(draws.var(0), q.log_var.exp(), atol=0, rtol=0.5)


def test_the_divergence_is_that_of_torch() -> None:
    q = Gaussian(torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    normal = torch.distributions.Normal(q.mean, (q.log_var / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(q.kl(), expected)
    torch.testing.assert_close(q.negative_entropy(), -normal.entropy().sum(-1))
    p = Gaussian(torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    other = torch.distributions.Normal(p.mean, (p.log_var / 2).exp())
    torch.testing.assert_close(q.kl_to(p), torch.distributions.kl_divergence(normal, other).sum(-1))


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="heads"):
        vae(heads=3)
    with pytest.raises(ValueError, match="7 tokens"):
        vae(patch_size=2).encode(ids(length=7))
