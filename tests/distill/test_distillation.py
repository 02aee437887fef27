"""ELF's distillation step against tensors of the published code, and the lean step against the plain one."""

from copy import deepcopy
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.recordings import error, part, recorded
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


class Step(NamedTuple):
    data: dict[str, Tensor]
    objective: StepDistillation
    net: ELF
    arguments: tuple[Any, ...]  # of the loss, after the net
    lr: float
    decay: float


def load(data: dict[str, Tensor], prefix: str) -> ELF:
    official = part(data, prefix)
    net = ELF(**infer_config(official))
    net.load_state_dict(map_weights(official))
    return net


def read(case: str) -> Step:
    data, meta = recorded("elf_pd")
    train = meta["config"]["train"] | meta["config"]["cases"][case]["train"]
    own, clock = part(data, f"{case}."), LogitNormal(train["denoiser_p_mean"], train["denoiser_p_std"])
    decode_clock = LogitNormal(train["decoder_p_mean"], train["decoder_p_std"])
    like = ELFObjective(
        clock,
        decode_time_schedule=decode_clock,
        decode_noise_scale=train["decoder_noise_scale"],
        guidance_min=train["self_cond_cfg_min"],
        guidance_max=train["self_cond_cfg_max"],
        loss_on_padding=train["pad_token"] == "eos",
    )
    objective = StepDistillation(Progressive(train["pd_teacher_steps"]), round(1 / train["pd_step_size"]), like)
    objective.teacher = Frozen(load(data, "teacher."))
    decode = own["draw.decode_rows"] > 0
    batch = Batch(own["batch.input_ids"], own["batch.attention_mask"] > 0)
    draws = ELFDraws(
        t=clock.time_of(own["draw.t_normal"]),
        eps=own["draw.eps"],
        decode=decode,
        clean_fraction=decode_clock.time_of(own["draw.decoder_normal"]).view(batch.ids.shape),
        decode_eps=own["draw.decoder_eps"],
        self_cond=own["draw.self_cond_rows"] > 0,
        guidance=like.sample_guidance(own["draw.cfg_uniform"]),
    )
    walk = objective.step_times(draws.t)
    times = interior_times(walk[:, 0], walk[:, -1], clock.time_of(own["draw.substep_normal"]).sort(1).values)
    fixed = own["batch.cond_seq_mask"] > 0
    path = LinearPath(train["denoiser_noise_scale"], train["t_eps"])
    arguments = (path, own["mid.x0"], batch, draws, times, fixed if bool(fixed.any()) else None)
    return Step(own, objective, load(data, "student."), arguments, meta["config"]["lr"], train["ema_decay1"])


@pytest.fixture(scope="module", params=CASES)
def step(request: pytest.FixtureRequest) -> Step:
    return read(request.param)


def losses(step: Step, net: nn.Module, form: str = "lean") -> dict[str, Tensor]:
    if form == "lean":
        return step.objective.loss(net, *step.arguments)
    return reference_distill_loss(step.objective, net, step.objective.teacher, *step.arguments)


@pytest.mark.parity
def test_the_walk_is_the_published_one(step: Step) -> None:
    *_, draws, times, _ = step.arguments
    taught = ~draws.decode
    assert error(times[taught], step.data["mid.sub_step_times"][taught]) < 1e-6
    assert error(times[taught, -1], step.data["mid.t_t"][taught]) < 1e-6
    assert error(draws.guidance, step.data["mid.w"]) < 1e-5


@pytest.mark.parity
def test_the_target_and_what_the_student_sees_are_the_published_ones(step: Step) -> None:
    path, x, _, draws, times, fixed = step.arguments
    taught, z = ~draws.decode, step.data["mid.z_t_s"]
    given = Conditioning(guidance=draws.guidance, prompt=None if fixed is None else x, prompt_mask=fixed).rows(taught)
    lesson = step.objective.target_output(
        step.net, path, z[taught], times[taught], given, row_indices(draws.self_cond[taught])
    )
    free = torch.ones_like(z[taught][..., 0], dtype=torch.bool) if fixed is None else ~fixed[taught]
    assert error(lesson.x0_target[free], step.data["mid.target"][taught][free]) < 1e-5
    assert error(lesson.self_cond, step.data["mid.sc_half"][taught]) < 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("form", ["lean", "plain"])
def test_losses_and_gradients_are_the_published_ones(step: Step, form: str) -> None:
    net, data = step.net, step.data
    net.zero_grad()
    found = losses(step, net, form)
    for ours, theirs in (("loss", "loss.total"), ("mse", "loss.pd"), ("decode_ce", "loss.ce")):
        assert error(found[ours], data[theirs]) < 1e-5
    found["loss"].backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    for name, grad in part(data, "grad.").items():
        assert error(grads[map_name(name)], grad.T if name.endswith("_kernel") else grad) < 2e-4, name
    norm = torch.stack([g.norm() for g in grads.values()]).norm()
    assert error(norm, data["grad_norm"]) < 2e-4


@pytest.mark.parity
def test_the_step_after_them_is_the_published_one(step: Step) -> None:
    net = deepcopy(step.net)
    twin = deepcopy(net)
    optimizer = MuonAdam(net.named_parameters(), lr=step.lr)
    net.zero_grad()
    losses(step, net)["loss"].backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    update_ema(net, twin, step.decay)
    for found, prefix in ((net, "after."), (twin, "ema_after.")):
        for name, after in part(step.data, prefix).items():
            after = after.T if name.endswith("_kernel") else after
            assert error(found.get_parameter(map_name(name)), after) < 1e-5, prefix + name


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_steps_stay_before_the_text(steps: int) -> None:
    made = StepDistillation(Progressive(8), steps)
    times = made.step_times(LogitNormal().sample(1000))
    assert bool((times.diff(dim=1) >= 0).all())
    torch.testing.assert_close(times[:, -1] - times[:, 0], torch.full((1000,), 1 / steps))
    assert float(times[:, -1].max()) < 1 + 1e-5 and float(times.min()) >= 0
