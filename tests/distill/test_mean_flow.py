"""MeanFlow's draws, targets, losses and gradients against the published code's, whose time runs the other way."""

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.recordings import error, part, recorded
from textflow.distill.flow_map import TimePairs
from textflow.distill.mean_flow import MeanFlowObjective
from textflow.distill.targets import DataTeacher, MeanFlow
from textflow.nets import Denoiser
from textflow.objectives.row_indices import row_indices
from textflow.paths import LinearPath
from textflow.schedules import LogitNormal
from textflow.types import Batch, Conditioning, Latents, Posterior, Times

PATH = LinearPath(1.0, 1e-8)


class Toy(Denoiser):
    """V = -MLP(z, 1 - s, u - s), as the clean guess z + (1 - s) V."""

    def __init__(self, weights: dict[str, Tensor], dim: int) -> None:
        super().__init__()
        self.dim = dim
        for name in ("l1", "l2", "l3"):
            shape = weights[f"{name}.weight"].shape
            setattr(self, name, nn.Linear(shape[1], shape[0]))
        self.load_state_dict(weights)

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        assert cond.end_time is not None
        told = torch.cat([z.flatten(1), 1 - t[:, None], (cond.end_time - t)[:, None]], 1)
        out = self.l3(torch.tanh(self.l2(torch.tanh(self.l1(told))))).view_as(z)
        return Posterior(z - (1 - t)[:, None, None] * out)


def rows(recorded: Tensor) -> Tensor:
    """[B, channels, height, width] as [B, L, D]."""
    return recorded.flatten(1, -2)


@pytest.fixture(scope="module")
def data() -> dict[str, Tensor]:
    return recorded("meanflow")[0]


def read(
    data: dict[str, Tensor], case: str
) -> tuple[dict[str, Tensor], Toy, MeanFlowObjective, TimePairs, Tensor, Batch]:
    config = recorded("meanflow")[1]["config"]
    own = part(data, f"{case}.")
    x = rows(data["x"])
    start = LogitNormal(-config["P_mean_t"], config["P_std_t"])
    end = LogitNormal(-config["P_mean_r"], config["P_std_r"])
    pair = "ordered" if case == "v0" else "pushed"
    objective = MeanFlowObjective(start, end, config["ratio"], pair, config["norm_p"], config["norm_eps"])
    instant = own["draw.uniform"] < 1 - config["ratio"]
    pairs = start.time_of(-own["draw.t_normal"]), end.time_of(-own["draw.r_normal"])
    spans = TimePairs(*objective.pair_times(*pairs, instant), rows(own["draw.eps"]), instant)
    batch = Batch(torch.zeros(x.shape[:2], dtype=torch.long), torch.ones(x.shape[:2], dtype=torch.bool))
    return own, Toy(part(data, "weights."), x.shape[-1]), objective, spans, x, batch


@pytest.mark.parity
@pytest.mark.parametrize("case", ["v0", "v1"])
def test_everything_of_a_step_is_the_published_one(data: dict[str, Tensor], case: str) -> None:
    own, net, objective, spans, x, batch = read(data, case)
    assert error(1 - spans.s, own["t"]) < 1e-5
    assert error(1 - spans.u, own["r"]) < 1e-5
    z = PATH.mix(x, spans.eps, spans.s)
    assert error(z, rows(own["z"])) < 1e-5
    never = torch.zeros_like(spans.diagonal)
    lesson = MeanFlow()(
        DataTeacher(x), net, PATH, z, torch.stack([spans.s, spans.u], 1), Conditioning(), row_indices(never)
    )
    assert lesson.prediction is not None
    assert error(PATH.velocity(z, lesson.prediction.mean, spans.s), -rows(own["u_pred"])) < 1e-5
    assert error(PATH.velocity(z, lesson.x0_target, spans.s), -rows(own["u_target"])) < 1e-5
    losses = objective.loss(net, PATH, x, batch, spans)
    assert error(losses["loss"], own["loss"]) < 1e-5
    assert error(losses["velocity_mse"], own["sq_error"].mean()) < 1e-5
    losses["loss"].backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    for name, grad in part(own, "grad.").items():
        assert error(grads[name], grad) < 1e-5, name


@pytest.mark.parity
def test_one_step_is_the_published_sample(data: dict[str, Tensor]) -> None:
    z = rows(data["sample.noise"])
    net, s, u = Toy(part(data, "weights."), z.shape[-1]), torch.zeros(len(z)), torch.ones(len(z))
    with torch.no_grad():
        assert error(PATH.step(z, net(z, s, Conditioning(end_time=u)).mean, s, u), rows(data["sample.z0"])) < 1e-5


def test_a_step_of_no_length_has_the_velocity_itself_as_its_target(data: dict[str, Tensor]) -> None:
    _, net, _, spans, x, _ = read(data, "v0")
    z = PATH.mix(x, spans.eps, spans.s)
    never = torch.zeros_like(spans.diagonal)
    lesson = MeanFlow()(
        DataTeacher(x), net, PATH, z, torch.stack([spans.s, spans.s], 1), Conditioning(), row_indices(never)
    )
    assert error(lesson.x0_target, x) < 1e-5
