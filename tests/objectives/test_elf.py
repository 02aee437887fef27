"""ELF's training step against tensors of the published code, without and with a prompt."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from tests.helpers.recordings import constant, error, part, recorded
from textflow.codecs import Codec, T5Codec
from textflow.codecs.base import encode_batch
from textflow.codecs.prefix_mask import prefix_attention_mask
from textflow.convert.elf_layout import infer_config, map_name, map_weights
from textflow.nets import ELF
from textflow.objectives import ELFDraws, ELFObjective
from textflow.paths import LinearPath
from textflow.reference.elf import reference_elf_loss
from textflow.schedules import LogitNormal
from textflow.training import MuonAdam
from textflow.training.ema import update_ema
from textflow.types import Batch


@dataclass
class Step:
    """A recorded training step."""

    data: dict[str, Tensor]
    config: dict[str, Any]
    net: ELF
    path: LinearPath
    objective: ELFObjective
    batch: Batch
    draws: ELFDraws

    def loss(self, net: ELF, **changes: Any) -> dict[str, Tensor]:
        changes = {"x": self.data["mid.x0"], "batch": self.batch, "draws": self.draws} | changes
        return self.objective.loss(net, self.path, **changes)


def recorded_step(name: str) -> Step:
    data, meta = recorded(name)
    train, official = meta["config"]["train"], part(data, "weights.")
    net = ELF(**infer_config(official))
    net.load_state_dict(map_weights(official))
    decode_times = LogitNormal(train["decoder_p_mean"], train["decoder_p_std"])
    objective = ELFObjective(
        decode_time_schedule=decode_times,
        decode_noise_scale=train["decoder_noise_scale"],
        guidance_min=train["self_cond_cfg_min"],
        guidance_max=train["self_cond_cfg_max"],
        loss_on_padding=train["pad_token"] == "eos",
    )
    masks = ("batch.attention_mask", "batch.cond_seq_mask", "batch.label_drop_mask")
    batch = Batch(data["batch.input_ids"], *(data[key] > 0 if key in data else None for key in masks))
    draws = ELFDraws(
        t=LogitNormal(train["denoiser_p_mean"], train["denoiser_p_std"]).time_of(data["draw.t_normal"]),
        eps=data["draw.eps"],
        decode=data["draw.decode_rows"] > 0,
        clean_fraction=decode_times.time_of(data["draw.decoder_normal"]).view(batch.ids.shape),
        decode_eps=data["draw.decoder_eps"],
        self_cond=data["draw.self_cond_uniform"] < train["self_cond_prob"],
        guidance=objective.sample_guidance(data["draw.cfg_uniform"]),
    )
    path = LinearPath(train["denoiser_noise_scale"], train["t_eps"])
    return Step(data, meta["config"], net, path, objective, batch, draws)


@pytest.fixture(scope="module")
def plain() -> Step:
    return recorded_step("elf_train")


@pytest.fixture(scope="module")
def prompted() -> Step:
    return recorded_step("elf_cond")


@pytest.fixture(params=["plain", "prompted"])
def step(request: pytest.FixtureRequest) -> Step:
    return request.getfixturevalue(request.param)


def official_layout(name: str, tensor: Tensor) -> Tensor:
    return tensor.T if name.endswith("_kernel") else tensor


@pytest.fixture
def codec(step: Step, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """The recorded encoder."""
    encoder = T5EncoderModel(T5Config(**step.config["t5"]))
    weights = part(step.data, "encoder.")
    names = {name: name.removeprefix("encoder.") if "shared" in name else name for name in weights}
    encoder.load_state_dict({names[name]: weight for name, weight in weights.items()}, strict=False)
    folder = tmp_path_factory.mktemp("t5")
    encoder.save_pretrained(folder)
    model, train = step.config["model"], step.config["train"]
    sizes = model["vocab_size"], str(folder), model["text_encoder_dim"]
    return T5Codec(*sizes, train["latent_mean"], train["latent_std"])


@pytest.mark.parity
def test_latents_and_draws_are_the_published_ones(step: Step, codec: Codec) -> None:
    data, draws = step.data, step.draws
    x = encode_batch(codec, step.batch)
    for ours, key in ((x, "x0"), (draws.t, "t"), (draws.guidance, "w"), (draws.clean_fraction, "decoder_lambda")):
        assert error(ours, data[f"mid.{key}"]) < 1e-5, key
    if step.batch.prompt_mask is not None:
        encoded = codec.encode(step.batch.ids, prefix_attention_mask(*step.batch[1:]))
        assert error(encoded, data["mid.x0_encoded"]) < 1e-5
    else:
        assert error(step.path.mix(x, draws.eps, draws.t), data["mid.z"]) < 1e-5


@pytest.mark.parity
def test_attention_masks_of_prompts_are_the_published_ones(prompted: Step) -> None:
    data, (_, mask, prompt_mask, dropped) = prompted.data, prompted.batch
    assert prompt_mask is not None
    assert torch.equal(prefix_attention_mask(mask, prompt_mask), data["batch.encoder_attention_mask"] > 0)
    assert torch.equal(prefix_attention_mask(mask, prompt_mask, dropped), data["mid.encoder_attention_mask"] > 0)


def check_gradients(step: Step, losses: dict[str, Tensor]) -> None:
    for ours, theirs in (("loss", "loss.total"), ("mse", "loss.l2"), ("decode_ce", "loss.ce")):
        assert error(losses[ours], step.data[theirs]) < 1e-5, ours
    step.net.zero_grad()
    losses["loss"].backward()
    gradients = {name: p.grad for name, p in step.net.named_parameters()}
    for name, grad in part(step.data, "grad.").items():
        assert error(gradients[map_name(name)], official_layout(name, grad)) < 1e-4, name
    assert error(torch.stack([grad.norm() for grad in gradients.values()]).norm(), step.data["grad_norm"]) < 1e-4


@pytest.mark.parity
def test_losses_and_gradients_are_the_published_ones(step: Step) -> None:
    check_gradients(step, step.loss(step.net))


@pytest.mark.parity
def test_losses_and_gradients_of_the_reference_form_are_the_published_ones(plain: Step) -> None:
    x = plain.data["mid.x0"]
    check_gradients(plain, reference_elf_loss(plain.objective, plain.net, plain.path, x, plain.batch, plain.draws))


@pytest.mark.parity
def test_the_next_weights_and_their_average_are_the_published_ones(step: Step) -> None:
    net = deepcopy(step.net)
    ema = deepcopy(net)
    for name, before in part(step.data, "ema_before.").items():
        ema.get_parameter(map_name(name)).data.copy_(official_layout(name, before))
    optimizer = MuonAdam(net.named_parameters(), lr=float(step.data["lr"]))
    net.zero_grad()
    step.loss(net)["loss"].backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), constant(step.config, "clip_norm"))
    optimizer.step()
    update_ema(net, ema, step.config["train"]["ema_decay1"])
    for ours, prefix in ((net, "after."), (ema, "ema_after.")):
        for name, after in part(step.data, prefix).items():
            assert error(ours.get_parameter(map_name(name)), official_layout(name, after)) < 1e-5, prefix + name


def test_no_prompt_and_an_empty_prompt_are_the_same(prompted: Step) -> None:
    none, empty = (prompted.batch._replace(prompt_mask=mask) for mask in (None, prompted.batch.mask & False))
    assert prompted.loss(prompted.net, batch=none) == prompted.loss(prompted.net, batch=empty)  # to the bit


def test_the_prompt_has_no_loss_but_is_an_input(prompted: Step) -> None:
    prompt_mask, draws, net = prompted.batch.prompt_mask, prompted.draws, prompted.net
    before = prompted.loss(net)
    eps = torch.where((prompt_mask & ~draws.decode[:, None])[..., None], draws.eps + 1, draws.eps)
    assert prompted.loss(net, draws=draws._replace(eps=eps)) == before, "the prompt of denoising rows is never noised"
    other = prompted.loss(net, x=prompted.data["mid.x0"] + prompt_mask[..., None])
    assert abs(other["mse"] - before["mse"]) > 1e-4 * before["mse"], "a target depends on its prompt"


def test_padding_counts_only_with_loss_on_padding(prompted: Step) -> None:
    assert not bool(prompted.batch.mask.all()), "no padding is recorded"
    arguments = (prompted.net, prompted.path, prompted.data["mid.x0"], prompted.batch, prompted.draws)
    scale = prompted.objective.decode_noise_scale
    with_padding, without = (
        ELFObjective(decode_noise_scale=scale, loss_on_padding=value).loss(*arguments)["loss"]
        for value in (True, False)
    )
    assert not torch.equal(with_padding, without)
