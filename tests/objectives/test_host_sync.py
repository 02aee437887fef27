"""A training step does not make the host wait for a GPU: counted by the operations that would."""

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
from textflow.reference.elf import reference_elf_loss
from textflow.schedules import DecodeError, LogitNormal
from textflow.training import MuonAdam
from textflow.training.ema import update_ema
from textflow.types import Batch

ASK = {"_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "_unique2", "equal", "is_nonzero"}
CHOOSE = {"index", "index_put", "index_put_", "_index_put_impl_"}  # by a mask they count its entries first


class Waits(TorchDispatchMode):
    """Counts the operations whose result's shape or value the host must know."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in CHOOSE and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in ASK or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def step(coins: str, padded: bool, target: Target | None = None) -> list[str]:
    """What waits in a whole step: draws, loss, way back, clipping, update, average."""
    torch.manual_seed(0)
    net, twin, teacher = (ELF(LatentSpace(8, 20), 16, 1, 2, 4) for _ in range(3))
    clock = DecodeError()
    clock.assume_uniform()
    objective = ELFObjective(clock, row_assignment=coins)
    if target:
        like, objective = objective, StepDistillation(target, 4, objective)
        objective.set_teacher(like, teacher)
    optimizer = MuonAdam(net.named_parameters())
    x, ids = torch.randn(10, 6, 8), torch.randint(20, (10, 6))
    mask = torch.arange(6)[None] < torch.randint(1, 7, (10, 1)) if padded else torch.ones_like(ids, dtype=torch.bool)
    clock.sample(1)  # looked at once
    with Waits() as waits:
        objective(net, GivenLatents(x), LinearPath(), Batch(ids, mask), 0)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        update_ema(net, twin, 0.9)
    return waits.found


@pytest.mark.parametrize("padded", [False, True])
def test_a_step_with_stratified_coins_never_waits(padded: bool) -> None:
    assert step("stratified", padded) == []


def test_a_step_with_exact_coins_waits_for_what_its_coins_decide() -> None:
    assert len(step("bernoulli", padded=True)) > 0


@pytest.mark.parametrize(
    "target", [Progressive(2), Progressive(4, "quantile", 2, 1.0, 1.0), Consistency(), SalimansHo()]
)
def test_a_distilling_step_with_stratified_coins_never_waits(target: Target) -> None:
    assert step("stratified", padded=True, target=target) == []


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


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("form", ["none", "mask", "prompt"])
def test_encoding_never_waits(which: int, form: str) -> None:
    """T5 on the device meta, which has no values to wait for: it asks a CPU, which waits for nothing."""
    codec = encoders()[which]
    device = "meta" if isinstance(codec, T5Codec) else "cpu"
    ids, codec = torch.zeros(3, 6, dtype=torch.int64, device=device), codec.to(device)
    mask = torch.ones(3, 6, dtype=torch.bool, device=device)
    told = {"none": None, "mask": mask, "prompt": prefix_attention_mask(mask, mask)}[form]
    with Waits() as waits:
        assert codec.encode(ids, told).shape == (3, 6, 8)
    assert waits.found == []


def flow(objective: FlowMap | FlowMapDistillation, rows: int) -> list[str]:
    """What waits in a step of an objective for steps of every length."""
    torch.manual_seed(0)
    ids = torch.randint(7, (rows, 5))
    x, batch = torch.randn(rows, 5, 7), Batch(ids, torch.ones_like(ids, dtype=torch.bool))
    if isinstance(objective, FlowMap):
        net = DiT(OneHot(7), width=16, depth=1, heads=2, cond_width=8, two_time=True, time_schedule=LogitNormal())
    else:
        net = ELF(LatentSpace(7, 7), 16, 1, 2, 4, two_time=True)
        objective.set_teacher(objective.teacher_objective, ELF(LatentSpace(7, 7), 16, 1, 2, 4))
    with Waits() as waits:
        objective(net, GivenLatents(x), LinearPath(1.0, 1e-3), batch, 0)["loss"].backward()
    return waits.found


@pytest.mark.parametrize("target", [SemiGroup(), Lagrangian()])
def test_a_flow_map_waits_only_where_its_share_of_rows_is_not_whole(target: Target) -> None:
    assert flow(FlowMap(target, LogitNormal()), rows=8) == []
    assert flow(FlowMap(target, LogitNormal()), rows=7) == ["nonzero"]


@pytest.mark.parametrize("rows", [10, 11, 13])
def test_distilling_into_a_flow_map_with_stratified_coins_never_waits(rows: int) -> None:
    assert flow(FlowMapDistillation(teacher_objective=ELFObjective(row_assignment="stratified")), rows) == []


@pytest.mark.parametrize(("rows", "instant"), [(25, 0.3), (10, 0.05), (10, 0.95), (5, 0.5)])
def test_of_denoising_rows_their_share_is_instant(rows: int, instant: float) -> None:
    """Rounded up or down, rightly on average: 8 standard errors of the mean of 400."""
    torch.manual_seed(0)
    objective, x = (
        FlowMapDistillation(teacher_objective=ELFObjective(row_assignment="stratified"), diagonal_prob=instant),
        torch.randn(rows, 5, 7),
    )
    few, seen = rows - round(0.2 * rows), []
    for _ in range(400):
        draws = objective.teacher_objective.sample_draws(x)
        spans = objective.sample_pairs(x, draws)
        told = ~draws.decode
        assert spans.num_diagonal == int(spans.diagonal.sum()) == int((spans.diagonal & told).sum())
        assert abs(spans.num_diagonal - instant * few) < 1
        seen.append(spans.num_diagonal)
        assert bool((spans.u[spans.diagonal] == spans.s[spans.diagonal]).all())
        assert bool((spans.u > spans.s)[told & ~spans.diagonal].all())
    part = instant * few % 1
    assert abs(sum(seen) / 400 - instant * few) <= 8 * (part * (1 - part) / 400) ** 0.5 + 1e-9


@pytest.mark.parametrize("padded", [False, True])
def test_fixed_shapes_give_the_published_gradient(padded: bool) -> None:
    torch.manual_seed(0)
    net, objective = ELF(LatentSpace(8, 20), 16, 1, 2, 4).double(), ELFObjective(row_assignment="stratified")
    torch.nn.init.normal_(net.out.weight, std=0.1)
    x, ids = torch.randn(10, 6, 8, dtype=torch.float64), torch.randint(20, (10, 6))
    mask = torch.arange(6)[None] < torch.randint(1, 7, (10, 1)) if padded else torch.ones_like(ids, dtype=torch.bool)
    draws = objective.sample_draws(x)
    draws = draws._replace(
        t=draws.t.double(), clean_fraction=draws.clean_fraction.double(), guidance=draws.guidance.double()
    )
    found = []
    for loss in (objective.loss, lambda *parts: reference_elf_loss(objective, *parts)):
        net.zero_grad()
        loss(net, LinearPath(), x, Batch(ids, mask), draws)["loss"].backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
