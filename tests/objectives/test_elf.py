"""ELF's training step against tensors of the published code, and the lean step against the plain one."""

from copy import deepcopy

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from tests.helpers.recordings import error, part, recorded
from textflow.codecs import T5Codec
from textflow.convert.elf_layout import infer_config, map_name, map_weights
from textflow.nets import ELF
from textflow.objectives import ELFDraws, ELFObjective
from textflow.paths import LinearPath
from textflow.reference.elf import reference_elf_loss
from textflow.schedules import LogitNormal
from textflow.training import MuonAdam
from textflow.training.ema import update_ema
from textflow.types import Batch

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> dict:
    data, meta = recorded("elf_train")
    config, train = meta["config"], meta["config"]["train"]
    encoder = T5EncoderModel(T5Config(**config["t5"]))
    encoder.load_state_dict(
        {
            k.removeprefix("encoder.") if k.startswith("encoder.shared") else k: v
            for k, v in part(data, "encoder.").items()
        },
        strict=False,
    )
    folder = tmp_path_factory.mktemp("t5")
    encoder.save_pretrained(folder)
    dim, vocab = config["model"]["text_encoder_dim"], config["model"]["vocab_size"]
    codec = T5Codec(vocab, str(folder), dim, train["latent_mean"], train["latent_std"])
    batch = Batch(data["batch.input_ids"], data["batch.attention_mask"] > 0)
    official = part(data, "weights.")
    net = ELF(**infer_config(official))
    net.load_state_dict(map_weights(official))
    decode_clock = LogitNormal(train["decoder_p_mean"], train["decoder_p_std"])
    objective = ELFObjective(
        decode_time_schedule=decode_clock,
        decode_noise_scale=train["decoder_noise_scale"],
        guidance_min=train["self_cond_cfg_min"],
        guidance_max=train["self_cond_cfg_max"],
        loss_on_padding=train["pad_token"] == "eos",
    )
    again = data["draw.self_cond_uniform"] < train["self_cond_prob"]
    draws = ELFDraws(
        t=LogitNormal(train["denoiser_p_mean"], train["denoiser_p_std"]).time_of(data["draw.t_normal"]),
        eps=data["draw.eps"],
        decode=data["draw.decode_rows"] > 0,
        clean_fraction=decode_clock.time_of(data["draw.decoder_normal"]).view(batch.ids.shape),
        decode_eps=data["draw.decoder_eps"],
        self_cond=again,
        guidance=objective.sample_guidance(data["draw.cfg_uniform"]),
    )
    path = LinearPath(train["denoiser_noise_scale"], train["t_eps"])
    return {
        "data": data,
        "codec": codec,
        "batch": batch,
        "net": net,
        "objective": objective,
        "draws": draws,
        "path": path,
        "decay": train["ema_decay1"],
    }


def test_latents_and_draws_are_the_published_ones(step: dict) -> None:
    data, draws = step["data"], step["draws"]
    x = step["codec"].encode(step["batch"].ids, step["batch"].mask)
    assert error(x, data["mid.x0"]) < 1e-5
    assert error(draws.t, data["mid.t"]) < 1e-5
    assert error(draws.guidance, data["mid.w"]) < 1e-5
    assert error(draws.clean_fraction, data["mid.decoder_lambda"]) < 1e-5
    assert error(step["path"].mix(x, draws.eps, draws.t), data["mid.z"]) < 1e-5


@pytest.mark.parametrize("form", ["lean", "plain"])
def test_losses_and_gradients_are_the_published_ones(step: dict, form: str) -> None:
    data, net = step["data"], step["net"]
    net.zero_grad()
    x = data["mid.x0"]
    arguments = (net, step["path"], x, step["batch"], step["draws"])
    losses = step["objective"].loss(*arguments) if form == "lean" else reference_elf_loss(step["objective"], *arguments)
    for ours, theirs in (("loss", "loss.total"), ("mse", "loss.l2"), ("decode_ce", "loss.ce")):
        assert error(losses[ours], data[theirs]) < 1e-5
    losses["loss"].backward()
    ours = {name: p.grad for name, p in net.named_parameters()}
    for name, grad in part(data, "grad.").items():
        assert error(ours[map_name(name)], grad.T if name.endswith("_kernel") else grad) < 1e-4, name
    norm = torch.stack([g.norm() for g in ours.values()]).norm()
    assert error(norm, data["grad_norm"]) < 1e-4


def test_the_step_after_them_is_the_published_one(step: dict) -> None:
    data, net = step["data"], deepcopy(step["net"])
    twin = deepcopy(net)
    for name, before in part(data, "ema_before.").items():
        twin.get_parameter(map_name(name)).data.copy_(before.T if name.endswith("_kernel") else before)
    optimizer = MuonAdam(net.named_parameters(), lr=float(data["lr"]))
    net.zero_grad()
    step["objective"].loss(net, step["path"], data["mid.x0"], step["batch"], step["draws"])["loss"].backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    update_ema(net, twin, step["decay"])
    for found, prefix in ((net, "after."), (twin, "ema_after.")):
        for name, after in part(data, prefix).items():
            after = after.T if name.endswith("_kernel") else after
            assert error(found.get_parameter(map_name(name)), after) < 1e-5, prefix + name
