"""Sampling after a prompt against tensors of the published code."""

import json
from typing import Any

import pytest
import torch

from tests.helpers.recordings import error, part, recorded
from tests.helpers.sampling import ReplayedNoise, one_step
from textflow.codecs import EmbeddingTable
from textflow.convert.elf_layout import infer_config, map_weights
from textflow.nets import ELF
from textflow.paths import LinearPath
from textflow.readouts import FromNet, View
from textflow.samplers import Euler, Reinject, sample
from textflow.samplers.prompt import Prompt, classifier_free_guidance, extract_answer, extrapolate, pad_after_eos
from textflow.types import Conditioning, Denoise, Posterior


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    data, meta = recorded("elf_cond")
    options, train, official = json.loads(meta["sampling"]), meta["config"]["train"], part(data, "weights.")
    net = ELF(**infer_config(official)).eval()
    net.load_state_dict(map_weights(official))
    w = torch.full((len(data["batch.input_ids"]),), options["sc_cfg"])

    def denoise(z: torch.Tensor, t: float, self_cond: torch.Tensor | None = None, *_: object) -> Posterior:
        return net(z, torch.full((len(z),), t), Conditioning(self_cond=self_cond, guidance=w))

    return {
        "data": data,
        "net": net,
        "denoise": denoise,
        "w": w,
        "options": options,
        "mask": data["batch.cond_seq_mask"] > 0,
        "path": LinearPath(train["denoiser_noise_scale"], train["t_eps"]),
        "pad": meta["config"]["pad_id"],
        "length": meta["config"]["model"]["max_length"] - options["max_input_length"],
    }


def ends(data: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Start and end of the recorded single steps; the end follows from the Euler step: z' = z + (u - t) v."""
    t, v = float(data["sample.fwd.t"][0]), data["sample.fwd.v"].double()
    moved = (data["sample.ode_step.z_next"] - data["sample.fwd.z"]).double()
    return t, t + float((moved * v).sum() / v.square().sum())


def guided(run: dict[str, Any], scale: float, shift: float = 0.0) -> Denoise:
    """The recorded denoiser with the prompt, whose latents may be shifted, and classifier-free guidance."""
    prompt = Prompt(run["data"]["sample.cond_seq"] + shift, run["mask"], scale)
    return lambda z, t, self_cond=None, *_: classifier_free_guidance(run["denoise"], prompt, z, t, self_cond)


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("suffix", ["", "_nocfg"])
def test_a_guided_belief_is_the_published_one(run: dict[str, Any], suffix: str) -> None:
    data, scale = run["data"], 1.0 if suffix else run["options"]["cfg"]
    z, t = data["sample.fwd.z"], float(data["sample.fwd.t"][0])
    belief = guided(run, scale)(z, t, data["sample.fwd.x_prev"])
    assert error(belief.mean, data[f"sample.fwd.x{suffix}"]) < 1e-5
    assert error(run["path"].velocity(z, belief.mean, t), data[f"sample.fwd.v{suffix}"]) < 1e-5


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("name", ["ode", "sde"])
def test_one_step_is_the_published_one(run: dict[str, Any], name: str) -> None:
    data = run["data"]
    sampler = Euler() if name == "ode" else Reinject(run["options"]["gamma"])
    noise = ReplayedNoise(data["sample.sde_step.eps"][None])
    z, prev = data["sample.fwd.z"], data["sample.fwd.x_prev"]
    z, belief = one_step(sampler, guided(run, run["options"]["cfg"]), run["path"], z, *ends(data), prev, noise)
    z = torch.where(run["mask"][..., None], data["sample.cond_seq"], z)  # as the loop does
    assert error(z, data[f"sample.{name}_step.z_next"]) < 1e-5
    if name == "sde":
        assert error(belief.mean, data["sample.sde_step.x"]) < 1e-5


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("name", ["ode", "sde"])
def test_rollouts_and_answers_are_the_published_ones(run: dict[str, Any], name: str) -> None:
    data, net, path, clean, mask = run["data"], run["net"], run["path"], run["data"]["sample.cond_seq"], run["mask"]
    sampler = Euler() if name == "ode" else Reinject(run["options"]["gamma"])
    z, noise = path.mix(0 * clean, data["sample.z_normal"], 0.0), ReplayedNoise(data["sample.sde.eps"])
    times = data["sample.times"].tolist()
    trace = sample(guided(run, run["options"]["cfg"]), sampler, path, times, z, noise, clean, mask)
    assert error(trace.z, data[f"sample.{name}.z1"]) < 1e-4
    codec, cond = EmbeddingTable(net.vocab_size, net.dim), Conditioning(guidance=run["w"])
    ids = FromNet().decode(View(trace.z, 1.0, Posterior(trace.z), path, codec, net, cond))
    assert torch.equal(ids, data[f"sample.{name}.ids"])
    shifted = extract_answer(ids, mask, run["length"])
    assert torch.equal(shifted, data[f"sample.{name}.ids_shifted"])
    final = pad_after_eos(shifted, int(data[f"sample.{name}.eos"]), run["pad"])
    assert torch.equal(final, data[f"sample.{name}.ids_final"])


@torch.no_grad()
def test_the_belief_keeps_the_prompt_depends_on_it_and_not_on_z_in_its_place(run: dict[str, Any]) -> None:
    z, clean, mask = run["data"]["sample.fwd.z"], run["data"]["sample.cond_seq"], run["mask"]
    mean, other = guided(run, 3.0)(z, 0.5).mean, guided(run, 3.0, shift=1.0)(z, 0.5).mean
    assert torch.equal(mean[mask], clean[mask])
    assert not torch.allclose(other[~mask], mean[~mask], atol=1e-3)
    noisy = torch.where(mask[..., None], torch.randn_like(z), z)
    assert torch.equal(guided(run, 3.0)(noisy, 0.5).mean, mean)


def test_guidance_is_linear_and_scale_one_and_zero_are_its_ends() -> None:
    free, belief = (Posterior(torch.randn(2, 3, 4), torch.randn(2, 3, 5)) for _ in range(2))
    for scale, end in ((0.0, free), (1.0, belief)):
        torch.testing.assert_close(extrapolate(free, belief, scale)[:2], end[:2])
    assert extrapolate(free._replace(logits=None), belief, 2.0).logits is belief.logits


def test_an_answer_begins_after_its_prompt() -> None:
    ids, mask = torch.arange(10).view(2, 5), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]).bool()
    assert extract_answer(ids, mask, 3, fill=99).tolist() == [[2, 3, 4], [9, 99, 99]]


def test_all_after_the_first_eos_is_padding() -> None:
    ids = torch.tensor([[3, 7, 3, 7], [7, 1, 2, 3], [1, 2, 3, 4]])
    assert pad_after_eos(ids, 7, 0).tolist() == [[3, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]]
