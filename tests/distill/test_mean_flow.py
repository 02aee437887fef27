"""MeanFlow's draws, targets, losses and gradients against the published code's, whose time runs the other way."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.recordings import error, part, recorded
from textflow.distill.flow_map import TimePairs
from textflow.distill.mean_flow import MeanFlowObjective
from textflow.distill.targets import DataTeacher, MeanFlow, TargetOutput
from textflow.distill.targets.base import TargetInput
from textflow.nets import Denoiser
from textflow.objectives.row_indices import no_rows
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.types import Batch, Conditioning, Latents, Posterior, Times

PATH = LinearPath(1.0, 1e-8)


class Toy(Denoiser):
    """V = -MLP(z, 1 - s, u - s), as the clean prediction z + (1 - s) V."""

    def __init__(self, weights: dict[str, Tensor], dim: int) -> None:
        super().__init__()
        self.dim = dim
        for name in ("l1", "l2", "l3"):
            shape = weights[f"{name}.weight"].shape
            setattr(self, name, nn.Linear(shape[1], shape[0]))
        self.load_state_dict(weights)

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        assert cond.end_time is not None
        features = torch.cat([z.flatten(1), 1 - t[:, None], (cond.end_time - t)[:, None]], 1)
        out = self.l3(torch.tanh(self.l2(torch.tanh(self.l1(features))))).view_as(z)
        return Posterior(z - (1 - t)[:, None, None] * out)


class Case(NamedTuple):
    data: dict[str, Tensor]
    net: Toy
    objective: MeanFlowObjective
    pairs: TimePairs
    x: Latents
    z: Latents

    def output(self, ends: Times) -> TargetOutput:
        times = torch.stack([self.pairs.s, ends], 1)
        teacher = DataTeacher(self.x)
        return MeanFlow()(TargetInput(teacher, self.net, PATH, self.z, times, Conditioning(), no_rows(self.z)))


def rows(image: Tensor) -> Tensor:
    """[B, channels, height, width] as [B, L, D]."""
    return image.flatten(1, -2)


def read(name: str) -> Case:
    """A recorded step, in float64: (z - x) / t rounds badly where t is small."""
    data, meta = recorded("meanflow")
    data = {key: tensor.double() for key, tensor in data.items()}
    config, own, x = meta["config"], part(data, f"{name}."), rows(data["x"])
    start = LogitNormal(-config["P_mean_t"], config["P_std_t"])
    end = LogitNormal(-config["P_mean_r"], config["P_std_r"])
    pairing = "ordered" if name == "v0" else "pushed"
    objective = MeanFlowObjective(start, end, config["ratio"], pairing, config["norm_p"], config["norm_eps"])
    diagonal = own["draw.uniform"] < 1 - config["ratio"]
    times = start.time_of(-own["draw.t_normal"]), end.time_of(-own["draw.r_normal"])
    pairs = TimePairs(*objective.pair_times(*times, diagonal), rows(own["draw.eps"]), diagonal)
    net = Toy(part(data, "weights."), x.shape[-1]).double()
    return Case(own, net, objective, pairs, x, PATH.mix(x, pairs.eps, pairs.s))


@pytest.mark.parity
@pytest.mark.parametrize("name", ["v0", "v1"])
def test_draws_target_loss_and_gradients_are_the_published_ones(name: str) -> None:
    case = read(name)
    own, pairs = case.data, case.pairs
    assert error(1 - pairs.s, own["t"]) < 1e-5
    assert error(1 - pairs.u, own["r"]) < 1e-5
    assert error(case.z, rows(own["z"])) < 1e-5
    output = case.output(pairs.u)
    assert output.prediction is not None
    assert error(PATH.velocity(case.z, output.prediction.mean, pairs.s), -rows(own["u_pred"])) < 1e-5
    assert error(PATH.velocity(case.z, output.x0_target, pairs.s), -rows(own["u_target"])) < 1e-5
    ids = torch.zeros(case.x.shape[:2], dtype=torch.long)
    losses = case.objective.loss(case.net, PATH, case.x, Batch(ids, ids == 0), pairs)
    assert error(losses["loss"], own["loss"]) < 1e-5
    assert error(losses["velocity_mse"], own["sq_error"].mean()) < 1e-5
    losses["loss"].backward()
    for key, grad in part(own, "grad.").items():
        assert error(case.net.get_parameter(key).grad, grad) < 1e-5, key


@pytest.mark.parity
def test_one_step_is_the_published_sample() -> None:
    data, _ = recorded("meanflow")
    z = rows(data["sample.noise"])
    net, s, u = Toy(part(data, "weights."), z.shape[-1]), torch.zeros(len(z)), torch.ones(len(z))
    with torch.no_grad():
        assert error(PATH.step(z, net(z, s, Conditioning(end_time=u)).mean, s, u), rows(data["sample.z0"])) < 1e-5


def test_the_target_of_a_step_of_length_zero_is_the_text() -> None:
    case = read("v0")
    assert error(case.output(case.pairs.s).x0_target, case.x) < 1e-5
