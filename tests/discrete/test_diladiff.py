"""DiLaDiff: MDLM's network with latents, its codec, and the tokens that it draws from latents."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.random_texts import chain_texts, small_chain
from tests.helpers.systems import make
from tests.helpers.trained_codecs import LENGTH, ROWS, VOCAB, WIDTHS, texts
from textflow.codecs import EmbeddingTable
from textflow.diagnostics.sample_callbacks import generator_cci
from textflow.discrete import DiLaDiffCodec, LatentTokenDiT, MaskedDecoding, MaskedReconstruction, MDLMSampler, TokenDiT
from textflow.models.autoencoder import Autoencoder
from textflow.noise import Noise
from textflow.objectives import LatentAugmentation
from textflow.paths import TangentPath
from textflow.readouts import View
from textflow.samplers import FlowMapChurn, State
from textflow.types import Batch, Posterior

pytestmark = pytest.mark.integration

SMALL: dict[str, Any] = {**WIDTHS, "cond_width": 8, "dropout": 0.0}


def random(net: Any, scale: float = 1.0) -> Any:
    """The net with random weights."""
    torch.manual_seed(1)
    for p in net.parameters():
        p.data.add_(scale * torch.randn_like(p))
    return net.eval()


def mdlm_and_latent_net() -> tuple[TokenDiT, LatentTokenDiT]:
    """MDLM, and a fresh net with latents that has its weights."""
    mdlm, own = random(TokenDiT(VOCAB + 1, **SMALL)), LatentTokenDiT(VOCAB + 1, 8, **SMALL).eval()
    own.load_state_dict(mdlm.state_dict(), strict=False)
    return mdlm, own


def test_at_initialisation_and_without_latents_it_equals_mdlm_bit_for_bit() -> None:
    mdlm, own = mdlm_and_latent_net()
    ids, z, sigma = texts().ids, torch.randn(ROWS, 4, 8), torch.zeros(ROWS)
    expected = mdlm(ids, sigma)
    assert torch.equal(own(ids, sigma, z), expected) and torch.equal(own(ids, sigma), expected)
    random(own.to_latents)
    rows = torch.arange(ROWS) % 2 == 0
    mixed = own(ids, sigma, z, rows)
    assert torch.equal(own(ids, sigma), expected) and torch.equal(mixed[~rows], expected[~rows])
    assert not torch.allclose(mixed[rows], expected[rows], atol=1e-2)


def test_its_first_gradient_reaches_the_zero_layers() -> None:
    own = mdlm_and_latent_net()[1]
    own(texts().ids, torch.zeros(ROWS), torch.randn(ROWS, 4, 8)).square().sum().backward()
    assert all(float(layer.w2.weight.grad.abs().sum()) > 0 for layer in own.to_latents.values())


def codec(vocab: int) -> DiLaDiffCodec:
    return DiLaDiffCodec(
        vocab,
        lambda vocab: EmbeddingTable(vocab, 16),
        8,
        4,
        LENGTH,
        1,
        2,
        lambda states, dim: LatentTokenDiT(states, dim, **SMALL),
    )


def test_the_decoder_starts_from_an_mdlm_whose_embeddings_stay(tmp_path: Path) -> None:
    mdlm = mdlm_and_latent_net()[0]
    save_file({f"net.{name}": part for name, part in mdlm.state_dict().items()}, tmp_path / "model.safetensors")
    model = Autoencoder(VOCAB, codec, MaskedReconstruction(mdlm=str(tmp_path)))
    model.on_fit_start()
    for net in (model.net, model.ema_net):
        assert all(torch.equal(net.decoder.state_dict()[name], part) for name, part in mdlm.state_dict().items())
    names = [name for name, _ in model.trained_parameters()]
    assert "decoder.backbone.embed" not in names and "decoder.backbone.out.weight" in names
    model.train().losses(model.net, texts())["loss"].backward()
    model.net.decoder.backbone.out.weight.data.zero_()
    model.on_fit_start()  # of a continued fit: the codec has statistics
    assert not model.net.decoder.backbone.out.weight.any()
    with pytest.raises(ValueError, match=r"mdlm is 'nowhere'.*give the folder"):
        Autoencoder(VOCAB, codec, MaskedReconstruction(mdlm="nowhere")).on_fit_start()
    with pytest.raises(ValueError, match="does not fit model.codec.decoder"):
        Autoencoder(VOCAB + 1, codec, MaskedReconstruction(mdlm=str(tmp_path))).on_fit_start()


def test_the_loss_counts_masked_tokens_and_a_row_may_lose_its_latents() -> None:
    torch.manual_seed(0)
    model, batch = Autoencoder(VOCAB, codec, MaskedReconstruction(LatentAugmentation(0.0, 0.0, 0.0))), texts()
    random(model.net)
    values = model.losses(model.net, batch)
    assert 0 < int(values["tokens"]) < batch.ids.numel() and float(values["loss"].detach()) > 0
    blind = Autoencoder(VOCAB, codec, MaskedReconstruction(latent_dropout=0.999999))
    random(blind.train().net).train()
    blind.losses(blind.net, batch)["loss"].backward()
    assert not any(p.grad is not None and p.grad.any() for p in blind.net.encoder.parameters())


def test_tokens_are_drawn_in_discrete_steps_by_their_seed_and_their_latents() -> None:
    own = random(codec(VOCAB), 0.3)
    z, readout = 3 * torch.randn(2, 4, 8), MaskedDecoding(steps=3)
    view = View(z, 1.0, Posterior(z), TangentPath(), own, own)
    both = readout.decode(view, Noise([1, 2]))
    alone = readout.decode(view._replace(belief=Posterior(z[:1])), Noise([1]))
    assert torch.equal(both[:1], alone) and bool((both < VOCAB).all())
    assert not torch.equal(both, readout.decode(view._replace(belief=Posterior(-z)), Noise([1, 2])))
    assert torch.equal(readout.decode(view), readout.logits(view).argmax(-1))
    likeliest = MaskedDecoding(1, MDLMSampler(top_p=1e-9)).decode(view, Noise([1, 2]))
    assert torch.equal(likeliest, readout.decode(view))  # one step with the smallest nucleus


def test_cci_is_that_of_a_masked_diffusion_of_as_many_steps() -> None:
    model, seeds = make("DiLaDiff"), list(range(24))
    value = generator_cci(model, model.sample(seeds, 2), Noise(seeds))
    assert value == pytest.approx((1 - 1 / 4), abs=0.05)  # tokens fall into 4 passes at random


def test_gamma_sampling_on_the_tangent_path_is_the_printed_one() -> None:
    path, z, x = TangentPath(10.0), torch.randn(1, 3, 4), torch.randn(1, 3, 4)
    ends = list[float | None]()

    def denoise(z: torch.Tensor, t: float, self_cond: Any = None, t_next: Any = None, carry: Any = None) -> Posterior:
        ends.append(t_next)
        return Posterior(x)

    ahead = 1 - 0.6 * (1 - 0.4)
    found = FlowMapChurn(0.8).step(denoise, path, State(z, 0.1), 0.4, Noise([5]))
    expected = 0.6 * path.step(z, x, 0.1, ahead) + 0.8 * Noise([5]).normal(3, 4)
    torch.testing.assert_close(found.z, expected)
    assert ends == [pytest.approx(ahead)]


@pytest.mark.slow
def test_a_trained_decoder_reaches_the_entropy_of_a_text_without_latents_and_reads_it_with_them() -> None:
    """The bound of exact conditional laws is H(text) / L in any order; with the text's latents nothing is left. Batches
    are large: the noise of masks and times in smaller ones leaves the laws of single masked tokens far off."""
    (prior, _), length, steps = small_chain(), 3, 800
    torch.manual_seed(0)
    model = Autoencoder(
        4,
        lambda vocab: DiLaDiffCodec(
            vocab,
            lambda vocab: EmbeddingTable(vocab, 8),
            *(4, 2, length, 1, 2),
            lambda *made: LatentTokenDiT(*made, width=32, depth=2, heads=2, cond_width=8, dropout=0.0),
        ),
        MaskedReconstruction(LatentAugmentation(0.0, 0.0, 0.0), latent_dropout=0.5),
    )
    own, ids = model.train().net, chain_texts(prior, 4096, length, 0)
    optimizer = torch.optim.Adam([p for p in own.parameters() if p.requires_grad], 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(steps):
        part = ids[torch.randint(len(ids), (512,))]
        optimizer.zero_grad()
        model.losses(own, Batch(part, part >= 0))["loss"].backward()
        optimizer.step()
        schedule.step()
    held_out = chain_texts(prior, 2000, length, 10**6)
    batch, best = Batch(held_out, held_out >= 0), prior.nll(held_out).mean(1)
    own.eval()
    with torch.no_grad():
        bounds = torch.stack([own.diffusion(own.decoder, batch, 0)["loss"] for _ in range(20)])
        with_latents = model.losses(own, batch)["loss"]
    interval = 2 * float(best.std()) / len(best) ** 0.5 + 2 * float(bounds.std()) / len(bounds) ** 0.5
    assert float(bounds.mean()) == pytest.approx(float(best.mean()), abs=interval)
    assert float(with_latents) < 0.1 * float(best.mean())
