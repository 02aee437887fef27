"""Operations of a training step that would make the host wait for a GPU."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.sampling import GivenLatents
from textflow.codecs import Codec, EmbeddingTable, LatentSpace, OneHot, T5Codec, TransformerCodec
from textflow.codecs.prefix_mask import prefix_attention_mask
from textflow.distill.flow_map import FlowMap
from textflow.distill.flow_map_distillation import FlowMapDistillation
from textflow.distill.step import StepDistillation
from textflow.distill.targets import Consistency, Lagrangian, Progressive, SalimansHo, SemiGroup, Target
from textflow.nets import ELF, Frozen
from textflow.nets.dit import DiT
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.schedules import DecodeError, LogitNormal
from textflow.training import MuonAdam
from textflow.training.ema import update_ema
from textflow.types import Batch

VALUES = {"_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "_unique2", "equal", "is_nonzero"}
INDEX = {"index", "index_put", "index_put_", "_index_put_impl_"}  # by a mask they count its entries first


class HostSyncs(TorchDispatchMode):
    """Records the operations whose result's shape or value the host must know."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in INDEX and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in VALUES or masks:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def step_syncs(row_assignment: str, padded: bool, target: Target | None = None) -> list[str]:
    """Operations of one step: draws, loss, backward pass, clipping, update, average."""
    torch.manual_seed(0)
    net, ema, teacher = (ELF(LatentSpace(8, 20), 16, 1, 2, 4) for _ in range(3))
    schedule = DecodeError()
    schedule.assume_uniform()
    objective = ELFObjective(schedule, row_assignment=row_assignment)
    if target:
        teacher_objective, objective = objective, StepDistillation(target, 4, objective)
        objective.set_teacher(teacher_objective, teacher)
    optimizer = MuonAdam(net.named_parameters())
    x, ids = torch.randn(10, 6, 8), torch.randint(20, (10, 6))
    mask = torch.arange(6)[None] < torch.randint(1, 7, (10, 1)) if padded else torch.ones_like(ids, dtype=torch.bool)
    schedule.sample(1)  # checked once
    with HostSyncs() as syncs:
        objective(net, GivenLatents(x), LinearPath(), Batch(ids, mask), 0)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        update_ema(net, ema, 0.9)
    return syncs.names


@pytest.mark.parametrize("padded", [False, True])
def test_a_step_with_stratified_rows_never_waits(padded: bool) -> None:
    assert step_syncs("stratified", padded) == []


def test_a_step_with_random_numbers_of_rows_waits() -> None:
    assert len(step_syncs("bernoulli", padded=True)) > 0


@pytest.mark.integration
@pytest.mark.parametrize(
    "target", [Progressive(2), Progressive(4, "quantile", 2, 1.0, 1.0), Consistency(), SalimansHo()]
)
def test_a_distilling_step_with_stratified_rows_never_waits(target: Target) -> None:
    assert step_syncs("stratified", padded=True, target=target) == []


def encoders() -> list[Codec]:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    t5 = T5Codec(20, dim=8)
    t5.encoder = Frozen(T5EncoderModel(T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)))
    return [
        EmbeddingTable(20, 8),
        TransformerCodec(20, 8, 16, 2, 2).eval(),
        TransformerCodec(20, 8, 16, 2, 2, token_mask_prob=0.5).train(),
        t5,
    ]


@pytest.mark.integration
@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("form", ["none", "mask", "prompt"])
def test_encoding_never_waits(which: int, form: str) -> None:
    """T5 on the device meta: on a CPU it checks its mask."""
    codec = encoders()[which]
    device = "meta" if isinstance(codec, T5Codec) else "cpu"
    ids, codec = torch.zeros(3, 6, dtype=torch.int64, device=device), codec.to(device)
    mask = torch.ones(3, 6, dtype=torch.bool, device=device)
    mask = {"none": None, "mask": mask, "prompt": prefix_attention_mask(mask, mask)}[form]
    with HostSyncs() as syncs:
        assert codec.encode(ids, mask).shape == (3, 6, 8)
    assert syncs.names == []


def flow_map_syncs(objective: FlowMap | FlowMapDistillation, rows: int) -> list[str]:
    """Operations of the loss of an objective for steps of every length."""
    torch.manual_seed(0)
    ids = torch.randint(7, (rows, 5))
    x, batch = torch.randn(rows, 5, 7), Batch(ids, torch.ones_like(ids, dtype=torch.bool))
    if isinstance(objective, FlowMap):
        net = DiT(OneHot(7), width=16, depth=1, heads=2, cond_width=8, two_time=True, time_schedule=LogitNormal())
    else:
        net = ELF(LatentSpace(7, 7), 16, 1, 2, 4, two_time=True)
        objective.set_teacher(objective.teacher_objective, ELF(LatentSpace(7, 7), 16, 1, 2, 4))
    with HostSyncs() as syncs:
        objective(net, GivenLatents(x), LinearPath(1.0, 1e-3), batch, 0)["loss"].backward()
    return syncs.names


@pytest.mark.integration
@pytest.mark.parametrize("target", [SemiGroup(), Lagrangian()])
def test_a_flow_map_waits_only_where_its_fraction_of_rows_is_not_an_integer(target: Target) -> None:
    assert flow_map_syncs(FlowMap(target, LogitNormal()), rows=8) == []
    assert flow_map_syncs(FlowMap(target, LogitNormal()), rows=7) == ["nonzero"]


@pytest.mark.integration
@pytest.mark.parametrize("rows", [10, 11, 13])
def test_distilling_into_a_flow_map_with_stratified_rows_never_waits(rows: int) -> None:
    assert flow_map_syncs(FlowMapDistillation(teacher_objective=ELFObjective(row_assignment="stratified")), rows) == []


@pytest.mark.integration
@pytest.mark.parametrize(("rows", "diagonal_prob"), [(25, 0.3), (10, 0.05), (10, 0.95), (5, 0.5)])
def test_a_fixed_fraction_of_the_denoising_rows_is_on_the_diagonal(rows: int, diagonal_prob: float) -> None:
    """Rounded up or down, without bias: 8 standard errors of the mean."""
    torch.manual_seed(0)
    teacher_objective, x = ELFObjective(row_assignment="stratified"), torch.randn(rows, 5, 7)
    objective = FlowMapDistillation(teacher_objective=teacher_objective, diagonal_prob=diagonal_prob)
    expected, counts, n = diagonal_prob * (rows - round(0.2 * rows)), [], 100
    for _ in range(n):
        draws = teacher_objective.sample_draws(x)
        pairs, denoise = objective.sample_pairs(x, draws), ~draws.decode
        assert pairs.num_diagonal == int(pairs.diagonal.sum()) == int((pairs.diagonal & denoise).sum())
        assert abs(pairs.num_diagonal - expected) < 1
        counts.append(pairs.num_diagonal)
        assert bool((pairs.u[pairs.diagonal] == pairs.s[pairs.diagonal]).all())
        assert bool((pairs.u > pairs.s)[denoise & ~pairs.diagonal].all())
    rest = expected % 1
    assert abs(sum(counts) / n - expected) <= 8 * (rest * (1 - rest) / n) ** 0.5 + 1e-9
