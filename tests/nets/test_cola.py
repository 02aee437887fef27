"""The block-causal diffusion transformer of Cola-DLM."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from tests.helpers.cola_parts import PATH, cola_recording, recorded_dit
from tests.helpers.recordings import error
from textflow.codecs import LatentSpace, TextVAE
from textflow.layers.block_causal import past_length
from textflow.layers.rope import rope
from textflow.nets import ColaDiT
from textflow.paths.base import broadcast_time
from textflow.types import Conditioning


def small(**options: int) -> ColaDiT:
    torch.manual_seed(0)
    net = ColaDiT(LatentSpace(4, 11), **({"width": 16, "depth": 2, "heads": 2, "block_size": 3} | options))
    for p in net.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return net.eval()


def noise_velocity(z: Tensor, mean: Tensor, t: Tensor) -> Tensor:
    """eps - x, where t < 1."""
    return (z - mean) / (1 - broadcast_time(t, z))


@pytest.mark.parity
def test_velocities_of_a_block_after_and_without_others_are_the_published_ones() -> None:
    """In float64: (z - mean) / (1 - t) rounds badly where t is close to 1."""
    tensors, config = cola_recording()
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    net, size, guidance = recorded_dit(tensors, config).double(), config["dit"]["block_size"], config["guidance"]
    for i, t in enumerate((1 - tensors["dit_in.timestep"] / 1000).view(-1, 1, size)):
        prefix, z = tensors[f"dit_in.prefix.{i}"][None], tensors[f"dit_in.block.{i}"][None]
        past = net(prefix, torch.ones(1).double()).carry
        assert isinstance(past, tuple) and past_length(past) == prefix.shape[1]
        given, alone, noisy = net(z, t, Conditioning(past=past)).mean, net(z, t).mean, t[0] < 1
        whole = net(torch.cat([prefix, z], 1), torch.cat([torch.ones_like(prefix[..., 0]), t], 1)).mean
        torch.testing.assert_close(whole[:, -size:], given, rtol=1e-5, atol=1e-6)
        rows = slice(size * i, size * (i + 1))
        expected = {name: tensors[f"dit_out.{name}"][rows][noisy] for name in ("cond", "uncond", "guided", "step")}
        for name, mean in (("cond", given), ("uncond", alone), ("guided", alone + guidance * (given - alone))):
            assert error(noise_velocity(z, mean, t)[0, noisy], expected[name]) < 2e-5
        ahead = PATH.step(z, alone + guidance * (given - alone), t, t + 1 / config["T_steps"])
        assert error(ahead[0, noisy], expected["step"]) < 2e-5


@pytest.mark.parity
def test_velocities_at_every_time_are_the_published_ones_in_one_pass() -> None:
    tensors, config = cola_recording()
    net, size, pieces = recorded_dit(tensors, config), config["dit"]["block_size"], []
    for i, t in enumerate((1 - tensors["dit_in.timestep"] / 1000).view(-1, 1, size)):
        prefix, z = tensors[f"dit_in.prefix.{i}"][None], tensors[f"dit_in.block.{i}"][None]
        row, times = torch.cat([prefix, z], 1), torch.cat([torch.ones_like(prefix[..., 0]), t], 1)
        block = torch.arange(row.shape[1]) // size
        freqs = rope(row.shape[1], net.rope_width, row)
        pieces.append(-net.velocity(row, times, freqs, block[:, None] >= block)[0][0])
    assert error(torch.cat(pieces), tensors["dit_out.full"]) < 2e-5


def test_a_block_depends_on_those_before_it_alone() -> None:
    net, z, t = small(), torch.randn(2, 8, 4), torch.tensor([0.2, 0.7])
    changed = z.clone()
    changed[:, 4] += 1
    moved = (net(z, t).mean - net(changed, t).mean).abs().amax((0, 2)) > 1e-6
    assert not moved[:3].any() and moved[3:].all()


def test_the_training_pass_is_each_block_after_its_clean_blocks() -> None:
    net, x, z, t = small(), torch.randn(2, 8, 4), torch.randn(2, 8, 4), torch.rand(2, 8)
    together = net.velocity_after(x, z, t)
    for start in range(0, 8, net.block_size):
        span = slice(start, start + net.block_size)
        past = net(x[:, :start], torch.ones(2)).carry if start else None
        mean = net(z[:, span], t[:, span], Conditioning(past=past)).mean
        torch.testing.assert_close(z[:, span] + (1 - t[:, span, None]) * together[:, span], mean)


def test_a_prompt_is_clean_at_the_clean_end_of_time() -> None:
    net, z, x, t = small(), torch.randn(2, 8, 4), torch.randn(2, 8, 4), torch.tensor([0.2, 0.7])
    mask = torch.arange(8)[None].expand(2, 8) < 4
    belief = net(z, t, Conditioning(prompt=x, prompt_mask=mask))
    torch.testing.assert_close(belief.mean[mask], x[mask])
    times = t[:, None].expand(2, 8).masked_fill(mask, 1.0)
    torch.testing.assert_close(belief.mean, net(torch.where(mask[..., None], x, z), times).mean)


def test_a_new_net_gives_the_noisy_latents_back() -> None:
    net, z = ColaDiT(LatentSpace(4, 11), width=16, depth=1, heads=2), torch.randn(2, 5, 4)
    torch.testing.assert_close(net(z, torch.tensor([0.2, 0.7])).mean, z)


@pytest.mark.parametrize("options", [{"head_width": 5}, {"rope_width": 10}, {"block_size": 0}])
def test_wrong_sizes_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="heads of"):
        small(**options)


def test_the_parameter_counts_are_those_of_the_published_sizes() -> None:
    config = yaml.safe_load((Path(__file__).parents[2] / "recipes" / "cola.yaml").read_text())
    arguments, vocab = config["model"]["init_args"], config["data"]["tokenizer"]["init_args"]["vocab_size"]
    assert (arguments["codec"], arguments["net"]) == ("TextVAE", "ColaDiT"), "at their defaults"
    with torch.device("meta"):
        codec = TextVAE(vocab)
        net = ColaDiT(codec)
    assert sum(p.numel() for p in codec.parameters()) == 501_871_574
    assert sum(p.numel() for p in net.parameters()) == 1_829_875_728
