"""ELF's distillation step and its reference against tensors of the published code."""

from copy import deepcopy
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.recordings import constant, error, part, recorded
from textflow.convert.elf_layout import infer_config, map_name, map_weights
from textflow.distill.step import StepDistillation
from textflow.distill.targets import Progressive
from textflow.distill.targets.progressive import interior_times
from textflow.nets import ELF, Frozen
from textflow.objectives import ELFDraws, ELFObjective
from textflow.objectives.row_indices import row_indices
from textflow.paths import LinearPath
from textflow.reference.distill import reference_distill_loss
from textflow.schedules import LogitNormal
from textflow.training import MuonAdam
from textflow.training.ema import update_ema
from textflow.types import Batch, Conditioning

CASES = list(recorded("elf_pd")[1]["config"]["cases"])


class Case(NamedTuple):
    data: dict[str, Tensor]
    objective: StepDistillation
    net: ELF
    arguments: tuple[Any, ...]  # of the loss, after the net
    lr: float
    decay: float
    clip_norm: float

    def losses(self, net: nn.Module, form: str = "ours") -> dict[str, Tensor]:
        if form == "ours":
            return self.objective.loss(net, *self.arguments)
        return reference_distill_loss(self.objective, net, self.objective.teacher, *self.arguments)


def load(data: dict[str, Tensor], prefix: str) -> ELF:
    official = part(data, prefix)
    net = ELF(**infer_config(official))
    net.load_state_dict(map_weights(official))
    return net


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    data, meta = recorded("elf_pd")
    config, own = meta["config"], part(data, f"{request.param}.")
    train = config["train"] | config["cases"][request.param]["train"]
    schedule = LogitNormal(train["denoiser_p_mean"], train["denoiser_p_std"])
    decode_schedule = LogitNormal(train["decoder_p_mean"], train["decoder_p_std"])
    teacher_objective = ELFObjective(
        schedule,
        decode_time_schedule=decode_schedule,
        decode_noise_scale=train["decoder_noise_scale"],
        guidance_min=train["self_cond_cfg_min"],
        guidance_max=train["self_cond_cfg_max"],
        loss_on_padding=train["pad_token"] == "eos",
    )
    steps = round(1 / train["pd_step_size"])
    objective = StepDistillation(Progressive(train["pd_teacher_steps"]), steps, teacher_objective)
    objective.teacher = Frozen(load(data, "teacher."))
    batch = Batch(own["batch.input_ids"], own["batch.attention_mask"] > 0)
    draws = ELFDraws(
        t=schedule.time_of(own["draw.t_normal"]),
        eps=own["draw.eps"],
        decode=own["draw.decode_rows"] > 0,
        clean_fraction=decode_schedule.time_of(own["draw.decoder_normal"]).view(batch.ids.shape),
        decode_eps=own["draw.decoder_eps"],
        self_cond=own["draw.self_cond_rows"] > 0,
        guidance=teacher_objective.sample_guidance(own["draw.cfg_uniform"]),
    )
    times = objective.step_times(draws.t)
    times = interior_times(times[:, 0], times[:, -1], schedule.time_of(own["draw.substep_normal"]).sort(1).values)
    prompt_mask = own["batch.cond_seq_mask"] > 0
    path = LinearPath(train["denoiser_noise_scale"], train["t_eps"])
    batch = batch._replace(prompt_mask=prompt_mask if bool(prompt_mask.any()) else None)
    arguments = path, own["mid.x0"], batch, draws, times
    optimizer = config["lr"], train["ema_decay1"], constant(config, "clip_norm")
    return Case(own, objective, load(data, "student."), arguments, *optimizer)


@pytest.mark.parity
def test_times_targets_and_self_conditions_are_the_published_ones(case: Case) -> None:
    path, x, batch, draws, times = case.arguments
    prompt_mask = batch.prompt_mask
    rows, z = ~draws.decode, case.data["mid.z_t_s"]
    assert error(times[rows], case.data["mid.sub_step_times"][rows]) < 1e-6
    assert error(times[rows, -1], case.data["mid.t_t"][rows]) < 1e-6
    assert error(draws.guidance, case.data["mid.w"]) < 1e-5
    cond = Conditioning(guidance=draws.guidance, prompt=None if prompt_mask is None else x, prompt_mask=prompt_mask)
    self_cond_rows = row_indices(draws.self_cond[rows])
    output = case.objective.target_output(case.net, path, z[rows], times[rows], cond.rows(rows), self_cond_rows)
    free = torch.ones_like(z[rows][..., 0], dtype=torch.bool) if prompt_mask is None else ~prompt_mask[rows]
    assert error(output.x0_target[free], case.data["mid.target"][rows][free]) < 1e-5
    assert error(output.self_cond, case.data["mid.sc_half"][rows]) < 1e-5


@pytest.mark.integration
@pytest.mark.parity
@pytest.mark.parametrize("form", ["ours", "reference"])
def test_losses_and_gradients_are_the_published_ones(case: Case, form: str) -> None:
    net, data = case.net, case.data
    net.zero_grad()
    losses = case.losses(net, form)
    for ours, theirs in (("loss", "loss.total"), ("mse", "loss.pd"), ("decode_ce", "loss.ce")):
        assert error(losses[ours], data[theirs]) < 1e-5
    losses["loss"].backward()
    for name, grad in part(data, "grad.").items():
        grad = grad.T if name.endswith("_kernel") else grad
        assert error(net.get_parameter(map_name(name)).grad, grad) < 2e-4, name
    norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()  # type: ignore[union-attr]
    assert error(norm, data["grad_norm"]) < 2e-4


@pytest.mark.integration
@pytest.mark.parity
def test_weights_after_a_step_are_the_published_ones(case: Case) -> None:
    net, ema_net = deepcopy(case.net), deepcopy(case.net)
    optimizer = MuonAdam(net.named_parameters(), lr=case.lr)
    net.zero_grad()
    case.losses(net)["loss"].backward()
    nn.utils.clip_grad_norm_(net.parameters(), case.clip_norm)
    optimizer.step()
    update_ema(net, ema_net, case.decay)
    for module, prefix in ((net, "after."), (ema_net, "ema_after.")):
        for name, weight in part(case.data, prefix).items():
            weight = weight.T if name.endswith("_kernel") else weight
            assert error(module.get_parameter(map_name(name)), weight) < 1e-5, prefix + name


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_steps_end_at_the_text_at_the_latest(steps: int) -> None:
    times = StepDistillation(Progressive(8), steps).step_times(LogitNormal().sample(1000))
    assert bool((times.diff(dim=1) >= 0).all())
    torch.testing.assert_close(times[:, -1] - times[:, 0], torch.full((1000,), 1 / steps))
    assert float(times[:, -1].max()) < 1 + 1e-5 and float(times.min()) >= 0
