"""Sampling after a prompt against tensors of the published code."""

import json
from typing import Any

import pytest
import torch

from tests.helpers.recordings import error, part, recorded
from tests.helpers.sampling import one_step
from textflow.codecs import EmbeddingTable
from textflow.convert.elf_layout import infer_config, map_weights
from textflow.nets import ELF
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.readouts import FromNet, View
from textflow.samplers import Euler, Reinject, sample
from textflow.samplers.prompt import Prompt, classifier_free_guidance, extract_answer, extrapolate, pad_after_eos
from textflow.types import Conditioning, Denoise, Posterior


class Replayed(Noise):
    """Recorded draws in place of streams."""

    def __init__(self, draws: torch.Tensor) -> None:
        self.left = list(draws)

    def normal_like(self, z: torch.Tensor) -> torch.Tensor:
        return self.left.pop(0)


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    data, meta = recorded("elf_cond")
    said, train, official = json.loads(meta["sampling"]), meta["config"]["train"], part(data, "weights.")
    net = ELF(**infer_config(official)).eval()
    net.load_state_dict(map_weights(official))
    w = torch.full((len(data["batch.input_ids"]),), said["sc_cfg"])

    def denoise(z: torch.Tensor, t: float, self_cond: torch.Tensor | None = None, *_: object) -> Posterior:
        return net(z, torch.full((len(z),), t), Conditioning(self_cond=self_cond, guidance=w))

    return {
        "data": data,
        "net": net,
        "bare": denoise,
        "w": w,
        "said": said,
        "fixed": data["batch.cond_seq_mask"] > 0,
        "path": LinearPath(train["denoiser_noise_scale"], train["t_eps"]),
        "pad": meta["config"]["pad_id"],
        "length": meta["config"]["model"]["max_length"] - said["max_input_length"],
    }


def ends(data: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Times of the recorded single steps; where they end is told by the Euler step alone: z' = z + (u - t) v."""
    t, v = float(data["sample.fwd.t"][0]), data["sample.fwd.v"].double()
    moved = (data["sample.ode_step.z_next"] - data["sample.fwd.z"]).double()
    return t, t + float((moved * v).sum() / v.square().sum())


def told(run: dict[str, Any], scale: float) -> Denoise:
    return guided(run["bare"], run["data"]["sample.cond_seq"], run["fixed"], scale)


def guided(denoise: Denoise, latents: torch.Tensor, mask: torch.Tensor, scale: float) -> Denoise:
    """A denoiser with the prompt, guided."""
    prompt = Prompt(latents, mask, scale)
    return lambda z, t, self_cond=None, *_: classifier_free_guidance(denoise, prompt, z, t, self_cond)


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("suffix", ["", "_nocfg"])
def test_a_guided_belief_is_the_published_one(run: dict[str, Any], suffix: str) -> None:
    data, scale = run["data"], 1.0 if suffix else run["said"]["cfg"]
    z, t = data["sample.fwd.z"], float(data["sample.fwd.t"][0])
    belief = told(run, scale)(z, t, data["sample.fwd.x_prev"])
    assert error(belief.mean, data[f"sample.fwd.x{suffix}"]) < 1e-5
    assert error(run["path"].velocity(z, belief.mean, t), data[f"sample.fwd.v{suffix}"]) < 1e-5


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("name", ["ode", "sde"])
def test_one_step_is_the_published_one(run: dict[str, Any], name: str) -> None:
    data = run["data"]
    sampler = Euler() if name == "ode" else Reinject(run["said"]["gamma"])
    noise = Replayed(data["sample.sde_step.eps"][None])
    z, prev = data["sample.fwd.z"], data["sample.fwd.x_prev"]
    z, belief = one_step(sampler, told(run, run["said"]["cfg"]), run["path"], z, *ends(data), prev, noise)
    kept = torch.where(run["fixed"][..., None], data["sample.cond_seq"], z)  # as the loop does
    assert error(kept, data[f"sample.{name}_step.z_next"]) < 1e-5
    if name == "sde":
        assert error(belief.mean, data["sample.sde_step.x"]) < 1e-5


@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("name", ["ode", "sde"])
def test_rollouts_answers_and_ends_are_the_published_ones(run: dict[str, Any], name: str) -> None:
    data, net, path, clean, fixed = run["data"], run["net"], run["path"], run["data"]["sample.cond_seq"], run["fixed"]
    sampler = Euler() if name == "ode" else Reinject(run["said"]["gamma"])
    z, noise = path.mix(0 * clean, data["sample.z_normal"], 0.0), Replayed(data["sample.sde.eps"])
    times = data["sample.times"].tolist()
    trace = sample(told(run, run["said"]["cfg"]), sampler, path, times, z, noise, clean, fixed)
    assert error(trace.z, data[f"sample.{name}.z1"]) < 1e-4
    codec, given = EmbeddingTable(net.vocab_size, net.dim), Conditioning(guidance=run["w"])
    ids = FromNet().decode(View(trace.z, 1.0, Posterior(trace.z), path, codec, net, given))
    assert torch.equal(ids, data[f"sample.{name}.ids"])
    shifted = extract_answer(ids, fixed, run["length"])
    assert torch.equal(shifted, data[f"sample.{name}.ids_shifted"])
    final = pad_after_eos(shifted, int(data[f"sample.{name}.eos"]), run["pad"])
    assert torch.equal(final, data[f"sample.{name}.ids_final"])


@torch.no_grad()
def test_the_prompt_stays_and_is_seen(run: dict[str, Any]) -> None:
    data, fixed = run["data"], run["fixed"]
    z = data["sample.fwd.z"]
    belief = told(run, 3.0)(z, 0.5)
    assert torch.equal(belief.mean[fixed], data["sample.cond_seq"][fixed])
    other = guided(run["bare"], data["sample.cond_seq"] + 1, fixed, 3.0)(z, 0.5)
    assert not torch.allclose(other.mean[~fixed], belief.mean[~fixed], atol=1e-3)


@torch.no_grad()
def test_what_stands_at_the_prompt_in_z_is_replaced(run: dict[str, Any]) -> None:
    z, fixed = run["data"]["sample.fwd.z"], run["fixed"]
    noisy = torch.where(fixed[..., None], torch.randn_like(z), z)
    assert torch.equal(told(run, 2.0)(noisy, 0.3).mean, told(run, 2.0)(z, 0.3).mean)


def test_guidance_is_linear_and_scale_one_and_zero_are_its_ends() -> None:
    free, belief = (Posterior(torch.randn(2, 3, 4), torch.randn(2, 3, 5)) for _ in range(2))
    for scale, end in ((0.0, free), (1.0, belief)):
        found = extrapolate(free, belief, scale)
        torch.testing.assert_close(found.mean, end.mean)
        torch.testing.assert_close(found.logits, end.logits)
    assert extrapolate(free._replace(logits=None), belief, 2.0).logits is belief.logits


def test_an_answer_begins_after_its_prompt() -> None:
    ids, fixed = torch.arange(10).view(2, 5), torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]).bool()
    assert extract_answer(ids, fixed, 3, fill=99).tolist() == [[2, 3, 4], [9, 99, 99]]


def test_all_after_the_first_end_is_padding() -> None:
    assert pad_after_eos(torch.tensor([[3, 7, 3, 7], [7, 1, 2, 3], [1, 2, 3, 4]]), 7, 0).tolist() == [
        [3, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]
    ]  # fmt: skip
