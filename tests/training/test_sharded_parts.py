"""Systems whose tables, codecs and readouts are used outside the net's forward: FSDP's shards do not change them."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from tests.helpers.launcher import fork_ranks
from tests.helpers.systems import make
from tests.helpers.trained_codecs import texts, trained_vae
from textflow.codecs.vae import TextVAE
from textflow.nets import DiT
from textflow.objectives import LangFlowObjective
from textflow.objectives.cola import ColaJoint
from textflow.training.engines.fsdp import shard_net
from textflow.training.engines.gather import local_tensor

pytestmark = pytest.mark.integration


def trainable_vae(vocab: int) -> TextVAE:
    """A text VAE that is trained with the prior."""
    vae = deepcopy(trained_vae()).requires_grad_(True)
    vae.trainable = True
    return vae


def wide_flm() -> Any:
    """FLM whose table is narrower than the vocabulary, so that it samples in the table's space."""
    return make("FLM", net=lambda codec: DiT(codec, width=8, depth=1, heads=2, cond_width=8))


MADE: dict[str, Callable[[], Any]] = {
    "FLM": wide_flm,
    "LangFlow": lambda: make("LangFlow", objective=LangFlowObjective(ramp_steps=0)),
    "trained text VAE": lambda: make("Cola", codec=trainable_vae, objective=ColaJoint()),
    "trained readout": lambda: make("CoDAR"),
    "nested methods": lambda: make("Loopholing"),
}


def check_gradients(made: Callable[[], Any], mesh: Any) -> None:
    """Check that a sharded net has the gradients of the plain one."""
    plain, sharded = made(), made()
    sharded.load_state_dict(plain.state_dict())
    shard_net(sharded.net, mesh)
    for model in (plain, sharded):
        torch.manual_seed(1)
        model.train().losses(model.net, texts())["loss"].backward()
    theirs = {name: p.grad for name, p in plain.net.named_parameters() if p.grad is not None}
    ours = {name: p.grad.full_tensor() for name, p in sharded.net.named_parameters() if p.grad is not None}
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert float((ours[name] - grad).abs().max()) <= 1e-5 * float(grad.abs().max()), name
    assert all(bool(grad.any()) for name, grad in theirs.items() if name in ("embed", "codec.table"))


def check_samples(made: Callable[[], Any], mesh: Any) -> None:
    """Check that a sharded net draws the texts of the plain one, also after its weights have changed."""
    drawn: list[list[list[int]]] = []
    for is_sharded in (False, True):
        model = made().train()
        if is_sharded:
            shard_net(model.ema_net, mesh)
        for _ in range(2):
            drawn.append(model.eval().sample_ids([1, 2], 3).tolist())
            if is_sharded:
                model.ema_net.reshard()
            model.train()
            with torch.no_grad():
                for p in [each for each in model.ema_net.parameters() if each.ndim > 1]:  # shards have whole rows
                    local_tensor(p).copy_(local_tensor(p).roll(1, -1))
    assert drawn[:2] == drawn[2:] and drawn[0] != drawn[1]


def in_processes(count: int, store: Path) -> int:
    """Check every system in a number of processes; return how many failed."""

    def check(rank: int) -> None:
        dist.init_process_group("gloo", store=dist.FileStore(str(store), count), rank=rank, world_size=count)
        mesh = init_device_mesh("cpu", (count,))
        for made in MADE.values():
            check_gradients(made, mesh)
            check_samples(made, mesh)

    return fork_ranks(check, count)


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_shards_change_neither_gradients_nor_texts(count: int, tmp_path: Path) -> None:
    assert in_processes(count, tmp_path / "store") == 0
