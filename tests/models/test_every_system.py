"""Published systems unlike ELF as combinations of textflow's parts, trained, sampled and diagnosed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.short_fits import LENGTH, ROWS, VOCAB, fit, texts
from textflow.codecs import EmbeddingTable, LatentSpace, OneHot, Resampler, TextVAE
from textflow.diagnostics.base import diagnostic_inputs
from textflow.diagnostics.dabi import dabi
from textflow.distill import StepDistillation
from textflow.distill.targets import Progressive
from textflow.models.autoencoder import Autoencoder
from textflow.models.generator import Generator
from textflow.nets import ELF, DiT
from textflow.noise import Noise
from textflow.objectives import CrossEntropy, ELFObjective, VariationalReconstruction
from textflow.paths import LinearPath
from textflow.readouts import Autoregressor, FromCodec, FromPosterior
from textflow.schedules import Uniform

pytestmark = pytest.mark.integration

WIDTHS: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2}


def embedding_generator(trainable: bool = False, **options: Any) -> Generator:
    """A DiT on embeddings, trained by cross-entropy."""
    torch.manual_seed(0)
    parts: dict[str, Any] = {
        "codec": lambda vocab: EmbeddingTable(vocab, 8, trainable),
        "net": lambda codec: DiT(codec, **WIDTHS, cond_width=8),
        "objective": CrossEntropy(),
        "readout": FromPosterior(),
        "token_readout": FromPosterior(),
    }
    return Generator(VOCAB, **(parts | options))


def resampler(vocab: int) -> Resampler:
    return Resampler(vocab, 8, latents=4, length=LENGTH, width=16, heads=2)


def text_vae(vocab: int) -> TextVAE:
    sizes: dict[str, Any] = {"width": 16, "mlp_width": 16, "heads": 2, "encoder_depth": 1, "decoder_depth": 1}
    return TextVAE(vocab, 8, patch_size=3, block_size=2, **sizes)


@pytest.mark.parametrize("codec", [resampler, text_vae])
def test_a_codec_of_four_latents_for_twelve_tokens_is_trained_sampled_and_diagnosed(codec: Any) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(VOCAB, codec, VariationalReconstruction() if codec is text_vae else None)
    fit(autoencoder)
    assert autoencoder.ema_net.is_trained
    model = Generator(
        VOCAB,
        codec=codec,
        net=lambda codec: ELF(codec, **WIDTHS, bottleneck=8),
        objective=ELFObjective(decode_prob=0.0),
        readout=FromCodec(),
        token_readout=FromCodec(),
    )
    model.load_codec(autoencoder.weights())
    before = model.net.out.weight.clone()
    fit(model)
    assert not torch.equal(before, model.net.out.weight)
    sample = model.sample([1, 2], 4)
    assert sample.trace.z.shape == (2, 4, 8) and sample.ids.shape == (2, LENGTH)
    inputs, noise = diagnostic_inputs(model, texts()), Noise(range(ROWS))
    posterior = inputs.terminal_posterior(4, noise)
    result = dabi(inputs.decode, inputs.x, posterior.x0_pred, inputs.mask, noise)
    assert result.flip.size.num_positions == ROWS * LENGTH and math.isfinite(result.loss.value)
    batch = texts(2)
    with pytest.raises(ValueError, match=f"{type(model.codec).__name__} has no latent of a single token") as error:
        model.complete(batch.ids, batch.mask, [1, 2])
    assert "\n" not in str(error.value)


def test_each_position_may_have_its_own_time() -> None:
    model = embedding_generator(objective=CrossEntropy(per_position_prob=1.0))
    fit(model)
    z, net = torch.randn(2, LENGTH, 8), model.ema_net
    for p in net.parameters():
        p.data.add_(0.3 * torch.randn_like(p))  # the last layer starts at zero
    expected = net(z, torch.tensor([0.3, 0.6])).mean
    torch.testing.assert_close(net(z, torch.tensor([[0.3], [0.6]]).expand(2, LENGTH)).mean, expected)
    times = torch.rand(2, LENGTH)
    other = net(z, times.index_fill(1, torch.tensor([3]), 0.9)).mean
    assert not torch.allclose(other, net(z, times).mean)
    x, eps = torch.randn(2, LENGTH, 8), torch.randn(2, LENGTH, 8)
    mixed = model.path.mix(x, eps, times)
    torch.testing.assert_close(mixed[1, 5], times[1, 5] * x[1, 5] + 2 * (1 - times[1, 5]) * eps[1, 5])
    with pytest.raises(ValueError, match="one time per row"):
        ELF(LatentSpace(8, VOCAB), **WIDTHS, bottleneck=8)(z, times)


def test_a_codec_is_trained_with_the_denoiser() -> None:
    model = embedding_generator(trainable=True, ema_decay=0.5)
    fit(model)  # the last layer starts at zero
    start = model.net.codec.table.detach().clone()
    model.losses(model.net, texts())["loss"].backward()
    assert model.net.codec.table.grad is not None and bool(model.net.codec.table.grad.abs().sum() > 0)
    model.zero_grad()
    fit(model, 3)
    table, averaged = model.net.codec.table, model.ema_net.codec.table
    assert not torch.equal(table, start) and not torch.equal(table, averaged) and not torch.equal(averaged, start)
    assert model.codec is model.ema_net.codec
    weights = model.weights()
    assert torch.equal(weights["net.codec.table"], averaged)
    loaded = embedding_generator(trainable=True)
    loaded.load_weights(weights)
    assert torch.equal(loaded.codec.table, averaged)
    assert model.sample([1], 3).ids.shape == (1, LENGTH)


def test_a_run_with_a_trained_codec_continues_bit_for_bit(tmp_path: Path) -> None:
    def run(steps: int, checkpoint: Path | None = None) -> Generator:
        model = embedding_generator(trainable=True)
        fit(model, steps, checkpoint).save_checkpoint(tmp_path / f"{steps}.ckpt")
        return model

    run(2)
    uninterrupted, continued = run(4), run(4, tmp_path / "2.ckpt")
    assert torch.equal(uninterrupted.net.codec.table, continued.net.codec.table)
    assert torch.equal(uninterrupted.ema_net.codec.table, continued.ema_net.codec.table)


@pytest.mark.parametrize("per_position_prob", [0.0, 1.0])
def test_a_student_learns_from_a_teacher_whose_objective_is_not_elfs(per_position_prob: float) -> None:
    teacher = embedding_generator()
    fit(teacher)
    student = embedding_generator(
        objective=StepDistillation(Progressive(2), 4, CrossEntropy(per_position_prob=per_position_prob))
    )
    student.learn_from(teacher, teacher)
    before = student.net.out.weight.clone()
    trainer = fit(student)
    assert not torch.equal(before, student.net.out.weight)
    assert trainer.callback_metrics["train/mse"] > 0


def test_a_dit_denoises_embeddings() -> None:
    model = embedding_generator()
    fit(model)
    belief = model.ema_net(torch.randn(2, LENGTH, 8), torch.tensor([0.2, 0.9]))
    assert belief.logits is not None
    torch.testing.assert_close(belief.mean, belief.logits.softmax(-1) @ model.codec.embeddings)
    assert model.sample([1, 2], 3).ids.shape == (2, LENGTH)
    one_hot = DiT(OneHot(VOCAB), **WIDTHS, cond_width=8)(torch.randn(2, LENGTH, VOCAB), torch.tensor([0.2, 0.9]))
    torch.testing.assert_close(one_hot.mean.sum(-1), torch.ones(2, LENGTH))


def test_a_path_and_its_schedule_may_have_other_ends_than_0_and_1() -> None:
    path = LinearPath(t_min=0.1, t_max=0.9)
    model = embedding_generator(objective=CrossEntropy(Uniform(0.1, 0.9)), path=path)
    times = model.objective.time_schedule.sample(1000)
    assert 0.1 <= float(times.min()) < 0.12 and 0.88 < float(times.max()) <= 0.9
    fit(model)
    sample = model.sample([1, 2], 4)
    assert sample.trace.times == pytest.approx([0.1, 0.3, 0.5, 0.7]) and sample.ids.shape == (2, LENGTH)
    z, _ = model.initial_noise([1])
    assert float(z.std()) == pytest.approx(2 * 0.9, rel=0.2)  # of pure noise it would be 2


def test_a_readout_is_trained_and_samples_its_tokens() -> None:
    model = embedding_generator(
        readout=Autoregressor(16, 1, 2), optimizer=lambda params: torch.optim.Adam([p for _, p in params], 3e-3)
    )
    before = model.net.readout.lm_head.weight.clone()
    trainer = fit(model)
    assert not torch.equal(before, model.net.readout.lm_head.weight) and "train/readout_nll" in trainer.callback_metrics
    one, same, other = (model.sample(seeds, 3).ids for seeds in ([1, 2], [1, 3], [4, 5]))
    assert torch.equal(one[0], same[0]) and not torch.equal(one, other)  # a text depends on its seed alone
