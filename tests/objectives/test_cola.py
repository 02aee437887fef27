"""The objective of Cola-DLM's prior: the published loss and gradients, simulated prompts, masks."""

from typing import Any

import pytest
import torch

from tests.helpers.cola_parts import PATH, cola_recording, recorded_dit
from tests.helpers.recordings import error, part
from textflow.codecs import LatentSpace, TextVAE
from textflow.convert.cola_layout import map_name
from textflow.models.generator import Generator
from textflow.nets import ELF, ColaDiT
from textflow.objectives import ColaJoint, ColaObjective, Draws
from textflow.schedules import LogitNormal
from textflow.types import Batch


@pytest.mark.parity
def test_loss_and_gradients_are_the_published_ones() -> None:
    tensors, config = cola_recording()
    net, objective = recorded_dit(tensors, config), ColaObjective()
    schedule = LogitNormal(-config["loc"], config["scale"])
    total = torch.zeros(())
    count = sum(tensors[f"train.loss_mask.{i}"].sum() for i in range(len(config["train_batch"])))
    predictions = []
    for i, (length, size, unpadded) in enumerate(config["train_batch"]):
        net.block_size = size
        x, eps = tensors[f"train.z0.{i}"][None], tensors[f"train.z1.{i}"][None]
        clean, t = tensors[f"train.timestep.{i}"][None] == 0, 1 - tensors["train.t"][i : i + 1]
        assert error(schedule.time_of(-tensors["train.t_normal"][i]), t[0]) < 2e-5
        draws = Draws(torch.where(clean, 1.0, t[:, None]), eps)
        valid = torch.arange(length)[None] < unpadded
        assert torch.equal(valid & ~clean, tensors[f"train.loss_mask.{i}"][None] > 0)
        z = PATH.mix(x, eps, draws.t)
        assert error(z[0], tensors[f"train.z_noisy.{i}"]) < 2e-5
        predictions.append(-net.velocity_after(x, z, draws.t)[0])
        losses = objective.loss(net, PATH, x, valid, draws)
        total = total + losses["loss"] * losses["tokens"] / count
    assert error(torch.cat(predictions), tensors["train.pred"]) < 2e-5
    assert error(total, tensors["train.loss"]) < 2e-5
    total.backward()
    for name, expected in part(tensors, "train.grad.").items():
        grad = net.get_parameter(map_name(name)).grad
        assert grad is not None and error(grad, expected) < 2e-5, name


def test_simulated_prompts_begin_blocks_and_leave_noise_in_each() -> None:
    x = torch.zeros(2000, 11, 2)
    torch.manual_seed(0)
    clean = ColaObjective(prompt_prob=0.3).sample_prompts(x, 4)
    blocks = torch.nn.functional.pad(clean, (0, 1)).unflatten(1, (3, 4))
    sizes = blocks.sum(-1)
    assert torch.equal(blocks, torch.arange(4) < sizes[..., None])
    assert sizes[:, :2].max() == 3 and sizes[:, 2].max() == 2  # the last block has three latents
    assert (sizes > 0).float().mean() == pytest.approx(0.3, abs=0.03)
    assert not ColaObjective(prompt_prob=1.0).sample_prompts(x, 1).any()


def test_a_real_prompt_and_padding_have_no_loss() -> None:
    codec = LatentSpace(4, 11)
    codec.encode = lambda ids, mask=None: torch.zeros(*ids.shape, 4)  # type: ignore[method-assign]
    net, ids = ColaDiT(codec, width=16, depth=1, heads=2, block_size=3), torch.zeros(2, 8, dtype=torch.long)
    prompt, mask = torch.arange(8)[None].expand(2, 8) < 2, torch.arange(8)[None].expand(2, 8) < 6
    losses = ColaObjective(prompt_prob=0.0)(net, codec, PATH, Batch(ids, mask, prompt), 0)
    assert losses["tokens"] == 2 * 4
    losses = ColaObjective(prompt_prob=0.0, loss_on_padding=True)(net, codec, PATH, Batch(ids, mask, prompt), 0)
    assert losses["tokens"] == 2 * 6
    torch.testing.assert_close(losses["loss"], torch.tensor(1.0), atol=0.5, rtol=0)  # a new net predicts 0 of N(0, 1)


def test_other_nets_and_impossible_chances_are_refused() -> None:
    codec = LatentSpace(4, 11)
    codec.encode = lambda ids, mask=None: torch.zeros(*ids.shape, 4)  # type: ignore[method-assign]
    ids = torch.zeros(1, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="ColaDiT"):
        ColaObjective()(ELF(codec, width=16, depth=1, heads=2), codec, PATH, Batch(ids, ids == 0), 0)
    with pytest.raises(ValueError, match="prompt_prob is 2.0"):
        ColaObjective(prompt_prob=2.0)


SIZES: dict[str, Any] = {"dim": 4, "width": 16, "mlp_width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2}


def joint(trainable: bool = True, **options: float) -> Generator:
    """A prior and its text VAE, trained together."""
    torch.manual_seed(0)
    model = Generator(
        11,
        codec=lambda vocab: TextVAE(vocab, **SIZES, block_size=3, trainable=trainable),
        net=lambda codec: ColaDiT(codec, width=16, depth=1, heads=2, block_size=3),
        objective=ColaJoint(**options),
        path=PATH,
    )
    for p in model.net.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return model


def test_prior_and_vae_are_trained_together_near_the_encoder_of_stage_1() -> None:
    model, text = joint(entropy_weight=0.5, reference_weight=2.0), torch.arange(6).expand(2, 6) < 5
    batch = Batch(torch.arange(12).view(2, 6) % 11, text)
    model.load_codec({f"net.{name}": tensor.clone() for name, tensor in model.net.codec.state_dict().items()})
    losses = model.losses(model.net, batch)
    assert float(losses["reference_kl"]) < 1e-6
    losses["loss"].backward()
    for name in ("codec.encoder.wte.weight", "codec.decoder.final_layer.weight", "out.weight"):
        grad = model.net.get_parameter(name).grad
        assert grad is not None and bool(grad.abs().sum() > 0), name
    model.net.codec.encoder.final_layer.bias.data.add_(0.5)
    losses = model.losses(model.net, batch)
    expected = losses["nll"] + losses["hidden_nll"] + 0.5 * losses["negative_entropy"] + losses["flow"]
    assert float(losses["reference_kl"]) > 0.1
    torch.testing.assert_close(losses["loss"].detach(), expected + 2 * losses["reference_kl"])
    assert not [name for name, _ in model.trained_parameters() if "reference" in name]


def test_clean_blocks_before_have_no_gradient() -> None:
    model, x = joint(), torch.randn(1, 6, 4, requires_grad=True)
    valid = torch.arange(6)[None] >= 3
    draws = Draws(torch.full((1, 6), 0.4), torch.randn(1, 6, 4))
    model.objective.loss(model.net, PATH, x, valid, draws)["loss"].backward()
    assert x.grad is not None and not x.grad[:, :3].any() and bool(x.grad[:, 3:].any())


def test_a_frozen_vae_and_impossible_weights_are_refused_in_one_line() -> None:
    frozen, negative = (lambda: joint(False), "trainable: true"), (lambda: joint(flow_weight=-1.0), "flow_weight -1")
    for call, expected in (frozen, negative):
        with pytest.raises(ValueError, match=expected) as refused:
            call()
        assert "\n" not in str(refused.value)
