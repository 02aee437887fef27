"""ELF's network against tensors of the published code."""

import pytest
import torch

from tests.helpers.recordings import error, part, recorded
from tests.helpers.sampling import ReplayedNoise
from textflow.codecs import EmbeddingTable, LatentSpace
from textflow.convert.elf_layout import infer_config, map_weights
from textflow.nets import ELF
from textflow.paths import LinearPath
from textflow.readouts import FromNet, View
from textflow.samplers import Euler, Reinject, sample
from textflow.types import Conditioning, Posterior


def published(name: str) -> tuple[ELF, dict, dict]:
    tensors, meta = recorded(name)
    official = part(tensors, "weights.")
    net = ELF(**infer_config(official))
    net.load_state_dict(map_weights(official))
    return net.eval(), tensors, meta


@pytest.mark.parity
@torch.no_grad()
def test_forward_is_the_published_one() -> None:
    net, data, _ = published("elf")
    z, t = data["forward.z"], data["forward.t"]
    cond = Conditioning(self_cond=data["forward.self_cond"], guidance=data["forward.self_cond_scale"])
    assert error(net(z, t, cond).mean, data["forward.denoise_all.x_pred"]) < 1e-5
    assert error(net.decode_logits(z, t, cond), data["forward.decode_all.logits"]) < 1e-5
    hidden = net.forward_hidden(z, t, cond, data["forward.decode_rows"] > 0)
    assert error(net.predict_x0(hidden), data["forward.x_pred"]) < 1e-5
    assert error(net.lm_logits(hidden), data["forward.logits"]) < 1e-5


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("name", ["ode", "sde"])
def test_rollouts_are_the_published_ones(name: str) -> None:
    net, data, meta = published("elf")
    w = torch.full((len(data["sample.z0"]),), float(meta["self_cond_scale"]))
    path = LinearPath(float(meta["noise_scale"]), float(meta["t_eps"]))

    def denoise(z: torch.Tensor, t: float, self_cond: torch.Tensor | None = None, *_: object) -> Posterior:
        return net(z, torch.full((len(z),), t), Conditioning(self_cond=self_cond, guidance=w))

    sampler = Euler() if name == "ode" else Reinject(float(meta["gamma"]))
    noise = ReplayedNoise(data["sample.sde.eps"])
    trace = sample(denoise, sampler, path, data["sample.times"].tolist(), data["sample.z0"], noise)
    assert error(trace.z, data[f"sample.{name}.z1"]) < 1e-4
    codec = EmbeddingTable(net.vocab_size, net.dim)
    # the published code decodes the end state: the last belief where no floor of 1 - t acts
    view = View(trace.z, 1.0, Posterior(trace.z), path, codec, net, Conditioning(guidance=w))
    assert torch.equal(FromNet().logits(view).argmax(-1), data[f"sample.{name}.ids"])


def test_a_net_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="depth is 0; an ELF needs at least 1 block"):
        ELF(LatentSpace(12, 50), width=16, depth=0, heads=2)


@pytest.mark.parametrize(
    ("width", "depth", "heads", "parameters"),
    [(768, 12, 12, 104_579_940), (1056, 24, 16, 342_540_036), (1280, 32, 16, 652_103_332)],
)
def test_parameter_counts_are_the_published_ones(width: int, depth: int, heads: int, parameters: int) -> None:
    with torch.device("meta"):
        net = ELF(LatentSpace(512, 32_100), width, depth, heads)
    assert sum(p.numel() for p in net.parameters()) == parameters
