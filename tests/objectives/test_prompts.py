"""ELF's training step with a prompt against tensors of the published code."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from tests.helpers.recordings import error, part, recorded
from textflow.codecs.prefix_mask import prefix_attention_mask, zero_prompt
from textflow.convert.elf_layout import infer_config, map_name, map_weights
from textflow.nets import ELF
from textflow.objectives import ELFDraws, ELFObjective
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.training import MuonAdam
from textflow.training.ema import update_ema
from textflow.types import Batch


@pytest.fixture(scope="module")
def step() -> dict[str, Any]:
    data, meta = recorded("elf_cond")
    train, official = meta["config"]["train"], part(data, "weights.")
    net = ELF(**infer_config(official))
    net.load_state_dict(map_weights(official))
    clock = LogitNormal(train["decoder_p_mean"], train["decoder_p_std"])
    objective = ELFObjective(
        decode_time_schedule=clock,
        decode_noise_scale=train["decoder_noise_scale"],
        guidance_min=train["self_cond_cfg_min"],
        guidance_max=train["self_cond_cfg_max"],
        loss_on_padding=train["pad_token"] == "eos",
    )
    batch = Batch(data["batch.input_ids"], data["batch.attention_mask"] > 0)
    draws = ELFDraws(
        t=LogitNormal(train["denoiser_p_mean"], train["denoiser_p_std"]).time_of(data["draw.t_normal"]),
        eps=data["draw.eps"],
        decode=data["draw.decode_rows"] > 0,
        clean_fraction=clock.time_of(data["draw.decoder_normal"]).view(batch.ids.shape),
        decode_eps=data["draw.decoder_eps"],
        self_cond=data["draw.self_cond_uniform"] < train["self_cond_prob"],
        guidance=objective.sample_guidance(data["draw.cfg_uniform"]),
    )
    return {
        "data": data,
        "config": meta["config"],
        "net": net,
        "path": LinearPath(train["denoiser_noise_scale"], train["t_eps"]),
        "objective": objective,
        "batch": batch,
        "fixed": data["batch.cond_seq_mask"] > 0,
        "dropped": data["batch.label_drop_mask"] > 0,
        "draws": draws,
    }


def loss(step: dict[str, Any], net: ELF, draws: ELFDraws) -> dict[str, torch.Tensor]:
    return step["objective"].loss(net, step["path"], step["data"]["mid.x0"], step["batch"], draws, step["fixed"])


@pytest.mark.parity
def test_who_sees_whom_is_the_published_mask(step: dict[str, Any]) -> None:
    data, mask, fixed = step["data"], step["batch"].mask, step["fixed"]
    assert torch.equal(prefix_attention_mask(mask, fixed), data["batch.encoder_attention_mask"] > 0)
    assert torch.equal(prefix_attention_mask(mask, fixed, step["dropped"]), data["mid.encoder_attention_mask"] > 0)


@pytest.mark.parity
def test_latents_of_prompt_and_target_are_the_published_ones(step: dict[str, Any]) -> None:
    data, mask, fixed, dropped = step["data"], step["batch"].mask, step["fixed"], step["dropped"]
    encoder = T5EncoderModel(T5Config(**step["config"]["t5"])).eval()
    names = {k: k.removeprefix("encoder.") if "shared" in k else k for k in part(data, "encoder.")}
    encoder.load_state_dict({names[k]: v for k, v in part(data, "encoder.").items()}, strict=False)
    seen = prefix_attention_mask(mask, fixed, dropped)[:, None]  # [B, 1, L, L]: over heads
    with torch.no_grad():
        hidden = encoder(input_ids=step["batch"].ids, attention_mask=seen).last_hidden_state
    train = step["config"]["train"]
    x = (hidden - train["latent_mean"]) / train["latent_std"]
    assert error(x, data["mid.x0_encoded"]) < 1e-5
    assert error(zero_prompt(x, fixed, dropped), data["mid.x0"]) < 1e-5


@pytest.mark.parity
def test_losses_and_gradients_are_the_published_ones(step: dict[str, Any]) -> None:
    data, net = step["data"], step["net"]
    net.zero_grad()
    losses = loss(step, net, step["draws"])
    for ours, theirs in (("loss", "loss.total"), ("mse", "loss.l2"), ("decode_ce", "loss.ce")):
        assert error(losses[ours], data[theirs]) < 1e-5, ours
    losses["loss"].backward()
    ours = {name: p.grad for name, p in net.named_parameters()}
    for name, grad in part(data, "grad.").items():
        assert error(ours[map_name(name)], grad.T if name.endswith("_kernel") else grad) < 1e-4, name
    assert error(torch.stack([g.norm() for g in ours.values()]).norm(), data["grad_norm"]) < 1e-4


@pytest.mark.parity
def test_the_step_after_them_is_the_published_one(step: dict[str, Any]) -> None:
    data, net = step["data"], deepcopy(step["net"])
    twin = deepcopy(net)
    for name, before in part(data, "ema_before.").items():
        twin.get_parameter(map_name(name)).data.copy_(before.T if name.endswith("_kernel") else before)
    optimizer = MuonAdam(net.named_parameters(), lr=float(data["lr"]))
    net.zero_grad()
    loss(step, net, step["draws"])["loss"].backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    update_ema(net, twin, step["config"]["train"]["ema_decay1"])
    for found, prefix in ((net, "after."), (twin, "ema_after.")):
        for name, after in part(data, prefix).items():
            after = after.T if name.endswith("_kernel") else after
            assert error(found.get_parameter(map_name(name)), after) < 1e-5, prefix + name


def test_no_prompt_and_an_empty_prompt_are_the_same(step: dict[str, Any]) -> None:
    arguments = (step["net"], step["path"], step["data"]["mid.x0"], step["batch"], step["draws"])
    none = step["objective"].loss(*arguments)
    assert none == step["objective"].loss(*arguments, torch.zeros_like(step["fixed"]))  # to the bit


def test_the_prompt_has_no_loss_but_is_seen(step: dict[str, Any]) -> None:
    fixed, draws, net = step["fixed"], step["draws"], step["net"]
    before, rows = loss(step, net, draws), ~draws.decode
    noise = torch.where((fixed & rows[:, None])[..., None], draws.eps + 1, draws.eps)
    assert loss(step, net, draws._replace(eps=noise)) == before, "the prompt of denoising rows is never noised"
    other = {**step, "data": {"mid.x0": step["data"]["mid.x0"] + fixed[..., None]}}
    assert abs(loss(other, net, draws)["mse"] - before["mse"]) > 1e-4 * before["mse"], "a target depends on its prompt"


def test_padding_counts_only_where_it_shall(step: dict[str, Any]) -> None:
    arguments = (step["net"], step["path"], step["data"]["mid.x0"], step["batch"], step["draws"], step["fixed"])
    assert not bool(step["batch"].mask.all()), "no padding is recorded"
    scale = step["config"]["train"]["decoder_noise_scale"]
    with_pads, without = (
        ELFObjective(decode_noise_scale=scale, loss_on_padding=pads).loss(*arguments)["loss"] for pads in (True, False)
    )
    assert not torch.equal(with_pads, without)
