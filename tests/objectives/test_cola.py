"""The objective of Cola-DLM's prior: the published loss and gradients, simulated prompts, masks."""

import pytest
import torch

from tests.helpers.cola_parts import PATH, cola_recording, recorded_dit
from tests.helpers.recordings import error, part
from textflow.codecs import LatentSpace
from textflow.convert.cola_layout import map_name
from textflow.nets import ELF, ColaDiT
from textflow.objectives import ColaObjective, Draws
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
