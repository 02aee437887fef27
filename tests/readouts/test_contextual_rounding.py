"""CoDAR's readout: tokens one after another, given the denoised latents."""

from typing import Any

import pytest
import torch

from tests.helpers.random_texts import chain_texts, small_chain
from tests.helpers.systems import ready
from tests.helpers.trained_codecs import LENGTH, VOCAB, texts
from textflow.codecs import Codec, EmbeddingTable, Resampler
from textflow.diagnostics.ablation import soft_feedback
from textflow.diagnostics.sample_callbacks import generator_cci
from textflow.eval.measure import eval_point
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.nets import UNetBERT
from textflow.noise import Noise
from textflow.objectives import SquaredError
from textflow.paths import TangentPath
from textflow.readouts import ContextualRounding, FromCodec, View
from textflow.types import Posterior


def codar(codec: Any = lambda vocab: EmbeddingTable(vocab, 8), **options: Any) -> Generator:
    """A tiny denoiser with the readout, with random weights."""
    torch.manual_seed(0)
    model = Generator(
        VOCAB,
        codec,
        net=lambda codec: UNetBERT(codec, width=8, depth=2, heads=2, dropout=0.0),
        objective=SquaredError(),
        path=TangentPath(1.0),
        readout=ContextualRounding(**{"width": 16, "depth": 2, "heads": 2, **options}),
        token_readout=FromCodec(),
    )
    for p in model.net.parameters():
        p.data.add_(0.5 * torch.randn_like(p))
    model.ema_net.load_state_dict(model.net.state_dict())
    model.text_format = TextFormat(seq_length=LENGTH)
    return ready(model).eval()


def view(model: Generator, rows: int = 2) -> View:
    x = torch.randn(rows, model.codec.num_latents(LENGTH), 8, generator=torch.Generator().manual_seed(1))
    return View(x, 1.0, Posterior(x), model.path, model.codec, model.ema_net)


def resampler(vocab: int) -> Codec:
    return Resampler(vocab, 8, latents=4, length=LENGTH, width=8, heads=2).eval()


@pytest.mark.parametrize("codec", [lambda vocab: EmbeddingTable(vocab, 8), resampler])
def test_token_after_token_gives_the_logits_of_a_teacher_forced_pass(codec: Any) -> None:
    model = codar(codec)
    seen, readout = view(model), model.readout
    ids, logits = readout.generate(seen, Noise([1, 2]))
    assert ids.shape == (2, LENGTH) and not torch.equal(ids[0], ids[1])
    torch.testing.assert_close(readout.next_logits(seen.belief.mean, ids), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(readout.next_logits(seen.belief.mean, ids.roll(1, 1))[:, 0], logits[:, 0])
    assert not torch.allclose(readout.next_logits(seen.belief.mean.flip(1), ids), logits, atol=1e-2)


def test_a_temperature_of_0_takes_the_likeliest_tokens() -> None:
    model = codar(temperature=0.0)
    seen = view(model)
    ids = model.readout.decode(seen, Noise([1, 2]))
    assert torch.equal(ids, model.readout.decode(seen)) and torch.equal(ids, model.readout.logits(seen).argmax(-1))


def test_it_is_trained_on_predictions_and_on_noise_of_their_size() -> None:
    model, rows = codar(late=0.5), 64
    seen = view(model, rows)
    torch.manual_seed(2)
    late = model.readout.late_latents(seen)
    torch.manual_seed(2)
    t = 0.5 + 0.5 * torch.rand(rows)
    with torch.no_grad():
        predicted = model.ema_net(model.path.mix(seen.z, torch.randn_like(seen.z), t), t).mean
    own = (late == predicted).flatten(1).all(1)
    assert 0.3 < float(own.float().mean()) < 0.7
    errors = [(a - b).square().mean().sqrt() for a, b in ((predicted, seen.z), (late[~own], seen.z[~own]))]
    assert float(errors[1]) == pytest.approx(float(errors[0]), rel=0.2)


def test_the_denoiser_gets_no_gradient_from_the_readout() -> None:
    model, batch = codar(), texts()
    model.train().net.readout.nll(view(model, len(batch.ids)), batch.ids, batch.mask).backward()
    touched = {name.split(".")[0] for name, p in model.net.named_parameters() if p.grad is not None}
    assert touched == {"readout"}
    assert "readout_nll" in model.losses(model.net, batch)


def test_cci_says_that_every_token_is_committed_and_none_with_expectations() -> None:
    model, seeds = codar(), [1, 2, 3]
    hard = model.sample(seeds, 2)
    assert generator_cci(model, hard, Noise(seeds)) == pytest.approx(1.0)
    with soft_feedback(model.readout):
        soft = model.sample(seeds, 2)
        assert generator_cci(model, soft, Noise(seeds)) == 0
    assert torch.equal(hard.ids[:, 0], soft.ids[:, 0]) and not torch.equal(hard.ids, soft.ids)
    assert model.readout.feedback == "tokens"


def test_its_passes_are_recorded_apart_from_the_network_evaluations() -> None:
    point = eval_point(codar(), 4, 0)
    assert point["readout_calls"] == LENGTH and point["readout"]["class"] == "ContextualRounding"
    assert point["readout"]["temperature"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("informative", [False, True])
def test_it_reaches_the_entropy_of_a_text_of_which_the_latents_tell_nothing_or_all(informative: bool) -> None:
    """-log p(text) per token is H(text) / L where latents are noise, and 0 where they are the text's."""
    (prior, codec), length, rows = small_chain(), 4, 4096
    torch.manual_seed(0)
    readout = ContextualRounding(width=16, depth=1, heads=2)
    readout.build(codec)
    ids = chain_texts(prior, rows, length, 0)
    x = codec.encode(ids).float() if informative else torch.randn(rows, length, 4)
    optimizer = torch.optim.Adam(readout.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, 300)
    for _ in range(300):
        index = torch.randint(rows, (128,))
        optimizer.zero_grad()
        logits = readout.next_logits(x[index], ids[index])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[index].flatten()).backward()
        optimizer.step()
        schedule.step()
    held_out = chain_texts(prior, 1000, length, 10**6)
    latents = codec.encode(held_out).float() if informative else torch.randn(1000, length, 4)
    log_p = readout.next_logits(latents, held_out).detach().log_softmax(-1)
    nll = -log_p.gather(-1, held_out[..., None])[..., 0].mean(1)
    best = torch.zeros(1000) if informative else prior.nll(held_out).mean(1).float()
    interval = 0.02 if informative else 2 * float(best.std()) / 1000**0.5
    assert -2 * float((nll - best).std()) / 1000**0.5 < float((nll - best).mean()) < interval
