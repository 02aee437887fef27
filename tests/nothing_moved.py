# ruff: noqa: B023, E501
"""What must not move while the code is taken apart and put together again. Temporary.

python -m tests.nothing_moved record FOLDER     every number of every group -> FOLDER/baseline.json
python -m tests.nothing_moved compare FOLDER    the same again, and what is another number
    --only NAME     (may be repeated) of these groups alone; record then replaces these groups in the file
    --engines       the group of the engines too, which is slow

A group is a function that imports what it needs itself. Keys are words of this file, not names of the code; parts of
a tuple or a dataclass are counted, so that a field may have another name, but not another place.
"""

import argparse
import hashlib
import io
import json
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline", "TQDM_DISABLE": "1"}

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

Group = Callable[["Note", Path], None]
GROUPS: dict[str, Group] = {}
SLOW: set[str] = set()


def group(name: str, slow: bool = False) -> Callable[[Group], Group]:
    """Registers a group by its name."""

    def add(made: Group) -> Group:
        GROUPS[name] = made
        if slow:
            SLOW.add(name)
        return made

    return add


# --- what is noted


class Note:
    """Numbers by key, each as a line of text that is another one if a bit of it is."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def __call__(self, key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, part in value.items():
                self(f"{key}, {name}", part)
        elif is_dataclass(value) or hasattr(value, "_fields"):  # its words name things of the code
            parts = [getattr(value, field.name) for field in fields(value)] if is_dataclass(value) else value
            for i, part in enumerate(parts):
                if not isinstance(part, str):
                    self(f"{key} #{i}", part)
        elif isinstance(value, (list, tuple)) and not plain(value):
            for i, part in enumerate(value):
                self(f"{key} #{i}", part)
        else:
            assert key not in self.found, f"two numbers of one key: {key}"
            self.found[key] = said(value)


def plain(values: Iterable[Any]) -> bool:
    """Whether these are numbers or words, to be written side by side."""
    return all(part is None or isinstance(part, (int, float, str)) for part in values)


def said(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        kind = str(value.dtype).removeprefix("torch.")
        if value.numel() == 1 and not value.ndim:
            return f"{kind} {value.item()!r}"
        total = value.double().sum().item() if not value.is_complex() else abs(value.sum().item())
        return f"{kind} {list(value.shape)} {sha(value)} sum {total!r}"
    if isinstance(value, (list, tuple)):
        line = " ".join(map(repr, value))
        return (
            line
            if len(line) < 600
            else f"{len(value)} parts {hashlib.sha256(line.encode()).hexdigest()[:24]} {line[:200]}"
        )
    if isinstance(value, bytes):
        return f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:24]}"
    return repr(value)


def sha(tensor: Tensor) -> str:
    """Of raw bytes."""
    raw = tensor.detach().cpu().contiguous()
    return hashlib.sha256(raw.flatten().view(torch.uint8).numpy().tobytes() if raw.numel() else b"").hexdigest()[:24]


def weights(parts: nn.Module | Iterable[Tensor]) -> str:
    """All parameters, whatever they are called and in whatever order they come."""
    tensors = [p.detach() for p in (parts.parameters() if isinstance(parts, nn.Module) else parts)]
    each = sorted(f"{list(p.shape)} {p.dtype} {sha(p)}" for p in tensors)
    total = sorted(float(p.double().abs().sum()) for p in tensors)
    return f"{len(each)} tensors {hashlib.sha256(' '.join(each).encode()).hexdigest()[:24]} size {sum(total)!r}"


# --- what several groups share

VOCAB, DIM, LENGTH, ROWS = 40, 8, 12, 10


def text(prompt: bool = False, rows: int = ROWS, vocab: int = VOCAB) -> Any:
    """A batch of made-up rows of several lengths, perhaps after prompts."""
    from textflow.types import Batch

    stream = torch.Generator().manual_seed(1)
    ids = torch.randint(vocab, (rows, LENGTH), generator=stream)
    lengths = torch.randint(6, LENGTH + 1, (rows, 1), generator=stream)
    starts = torch.randint(0, 5, (rows, 1), generator=stream)
    spots = torch.arange(LENGTH)[None]
    return Batch(ids, spots < lengths, spots < starts if prompt else None)


def stirred(net: nn.Module, seed: int = 2, scale: float = 0.3) -> nn.Module:
    """A net without zeros: what begins at zero says nothing."""
    stream = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        p.data.add_(scale * torch.randn(p.shape, generator=stream, dtype=p.dtype))
    return net


def ten(
    note: Note, key: str, net: nn.Module, losses: Callable[[], dict[str, Tensor]], rule: Any = None, twin: Any = None
) -> None:
    """Ten steps: every loss of every step, and the weights after them."""
    from textflow.training import MuonAdam
    from textflow.training.ema import follow

    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    optimizer = MuonAdam(named, lr=2e-3) if rule is None else rule(named)
    torch.manual_seed(5)
    met: dict[str, list[float]] = {}
    for _ in range(10):
        optimizer.zero_grad()
        found = losses()
        found["loss"].backward()
        optimizer.step()
        if twin is not None:
            follow(net, twin, 0.9)
        for name, value in found.items():
            met.setdefault(name, []).append(value.item())
    for name, values in met.items():
        note(f"{key}, {name}", values)
    note(f"{key}, weights", weights(net))
    note(f"{key}, stream", torch.rand(()).item())
    if twin is not None:
        note(f"{key}, average", weights(twin))


def generator(**options: Any) -> Any:
    """An untrained ELF generator whose weights all say something, net and average alike."""
    from tests.helpers.tiny_generator import untrained

    made = untrained(VOCAB, DIM, LENGTH, **options)
    made.net.load_state_dict(made.twin.state_dict())
    return made


def elf(**options: Any) -> Callable[[int, int], nn.Module]:
    """Makes a small ELF from a width and a number of tokens."""
    from textflow.nets import ELF

    return lambda dim, vocab: ELF(dim, vocab, **({"width": 16, "depth": 2, "heads": 2, "bottleneck": 8} | options))


def dit(seed: int, spans: bool, **options: Any) -> nn.Module:
    """A small DiT over one-hot tokens."""
    from textflow.nets.dit import DiT
    from textflow.schedules import LogitNormal

    torch.manual_seed(seed)
    size = {"width": 16, "depth": 2, "heads": 2, "cond": 8, "spans": spans, "clock": LogitNormal()} | options
    return stirred(DiT(VOCAB, VOCAB, **size), seed + 10)


def generators_steps(note: Note, key: str, made: Any, batch: Any) -> None:
    """Ten steps of a generator (or of another model), average and all."""
    made.train()
    ten(note, key, made.net, lambda: made.losses(made.net, batch), twin=made.twin)


# --- 1. objectives


@group("objectives: a teacher of continuous latents")
def teachers(note: Note, folder: Path) -> None:
    from textflow.codecs import Learned, Table
    from textflow.objectives import ELFObjective
    from textflow.paths import Linear
    from textflow.reference.elf import plain_loss
    from textflow.schedules import DecodeError, LogitNormal, Uniform

    for coins in ("exact", "stratified"):
        for error in ("velocity", "x"):
            for head in (False, True):
                made = generator(objective=ELFObjective(error=error, coins=coins), head=head)
                key = f"{error}, {coins} coins{', head' if head else ''}"
                generators_steps(note, key, made, text())
    cases: dict[str, tuple[dict[str, Any], bool]] = {
        "prompts": ({"objective": ELFObjective(pads=True), "drop": 0.5}, True),
        "prompts, padding does not count": ({"objective": ELFObjective(), "drop": 0.2}, True),
        "prompts, stratified, head": ({"objective": ELFObjective(coins="stratified", pads=True), "head": True}, True),
        "padding counts": ({"objective": ELFObjective(pads=True)}, False),
        "other settings": (
            {
                "objective": ELFObjective(
                    LogitNormal(-0.5, 1.0), 0.4, Uniform(), 3.0, 0.7, 0.6, 3.0, "velocity", "exact", 0.3
                ),
                "path": Linear(1.5, 0.01),
                "head": True,
            },
            False,
        ),
        "dropout": ({"objective": ELFObjective(), "net": elf(depth=4, dropout=0.5)}, False),
        "dropout, error in x": ({"objective": ELFObjective(error="x"), "net": elf(depth=4, dropout=0.5)}, False),
        "inputs of blocks alone are kept": ({"objective": ELFObjective(), "net": elf(recompute=True)}, False),
        "another form of net": (
            {
                "objective": ELFObjective(),
                "net": elf(hidden=20, time_tokens=1, guidance_tokens=2, mode_tokens=3, spans=True),
            },
            False,
        ),
        "latents in context": (
            {"objective": ELFObjective(), "codec": lambda vocab: Learned(vocab, DIM, width=16, heads=2)},
            False,
        ),
        "latents in context, prompts": (
            {
                "objective": ELFObjective(pads=True),
                "codec": lambda vocab: Learned(vocab, DIM, width=16, heads=2),
                "drop": 0.4,
            },
            True,
        ),
    }
    for key, (options, prompt) in cases.items():
        generators_steps(note, key, generator(**options), text(prompt))

    made = generator(objective=ELFObjective(DecodeError(even=0.2, points=17)), codec=lambda vocab: Table(vocab, DIM))
    made.measure(text(rows=64), made.unmeasured())
    note("clock of the decode error, grid", made.grid.grid(6))
    generators_steps(note, "clock of the decode error", made, text())

    made, batch = generator(objective=ELFObjective(), head=True), text()
    torch.manual_seed(3)
    x = made.clean(batch)
    draws = made.objective.draw(x)
    note("draws", tuple(draws))
    note("published form", plain_loss(made.objective, made.net, made.path, x, batch, draws))
    note("lean form", made.objective.loss(made.net, made.path, x, batch, draws))


def wide(vocab: int = VOCAB, rows: int = ROWS) -> tuple[Tensor, Any]:
    """One-hot latents of a text."""
    batch = text(rows=rows)
    return nn.functional.one_hot(batch.ids, vocab).float(), batch


@group("objectives: flow maps and mean flows from the data and from a teacher")
def flows(note: Note, folder: Path) -> None:
    from textflow.distill import FlowMap, MeanFlowObjective
    from textflow.distill.targets import Copy, Eulerian, Lagrangian, SemiGroup
    from textflow.nets import Frozen
    from textflow.nets.dit import Residual
    from textflow.objectives import ELFObjective
    from textflow.paths import Linear
    from textflow.schedules import LogitNormal, Uniform

    path, (x, batch) = Linear(1.0, 1e-3), wide()

    def adam(named: list[Any]) -> Any:
        return torch.optim.Adam([p for _, p in named], lr=1e-2)

    cases: dict[str, Callable[[], Any]] = {
        "semigroup": lambda: FlowMap(),
        "semigroup, other clock, whole steps": lambda: FlowMap(SemiGroup(), LogitNormal(), whole=0.3),
        "semigroup, square, rescaled": lambda: FlowMap(SemiGroup(), Uniform(), error="square", rescale=True),
        "semigroup, few instant": lambda: FlowMap(SemiGroup(), instant=0.25, instant_error="square"),
        "eulerian": lambda: FlowMap(Eulerian(floor=0.2), LogitNormal(), error="square"),
        "lagrangian": lambda: FlowMap(Lagrangian(), LogitNormal()),
        "lagrangian, not projected": lambda: FlowMap(Lagrangian(project=False), LogitNormal(), error="square"),
        "mean flow, ordered": lambda: MeanFlowObjective(LogitNormal(-0.5, 1.0), LogitNormal(1.0, 1.0)),
        "mean flow, pushed": lambda: MeanFlowObjective(pair="pushed", power=0.5, length=0.5),
        "mean flow, plain square": lambda: MeanFlowObjective(power=0.0),
    }
    for key, make in cases.items():
        for taught in (False, True):
            made, net = make(), dit(0, True)
            if taught:
                made.learn_from(ELFObjective(), dit(1, False))
            who = "a teacher" if taught else "the data"
            ten(note, f"{key}, from {who}", net, lambda made=made, net=net: made(net, path, x, batch), adam)

    weighing, made = dit(0, True, weighting=True, logit_cap=30.0), FlowMap(clock=LogitNormal())
    ten(note, "semigroup, learned weights of times", weighing, lambda: made(weighing, path, x, batch), adam)

    first = FlowMap(SemiGroup(), LogitNormal(), instant=0.0, error="square")
    bend = Residual(dit(1, False), dit(2, True, weighting=True), path)
    ten(note, "two stages, the first", bend, lambda: first(bend, path, x, batch), adam)
    second, student = FlowMap(Copy(), LogitNormal(), instant=0.0, error="square", rescale=True), dit(3, True)
    second.teacher = Frozen(bend)
    ten(note, "two stages, the second", student, lambda: second(student, path, x, batch), adam)
    mixed, student = FlowMap(Copy(), LogitNormal(), instant=0.5, error="square", instant_error="square"), dit(3, True)
    mixed.learn_from(first, bend)
    ten(note, "two stages, the second with instant rows", student, lambda: mixed(student, path, x, batch), adam)


def taught(objective: Any, prompt: bool = False, like: Any = None, teacher: Any = None, **options: Any) -> Any:
    """A student generator that has taken its teacher."""
    from textflow.objectives import ELFObjective

    teacher = teacher or generator(objective=like or ELFObjective(pads=prompt))
    made = generator(objective=objective, **({"drop": 0.3} if prompt else {}) | options)
    made.take_teacher(teacher, teacher)
    stirred(made.net, 7, 0.05)
    return made


@group("objectives: students of fewer steps")
def students(note: Note, folder: Path) -> None:
    from textflow.codecs import Learned
    from textflow.diagnostics.target_error import target_error
    from textflow.distill import Distill
    from textflow.distill.targets import Consistency, Progressive, SalimansHo
    from textflow.escapes import All, Confident, Tube
    from textflow.objectives import ELFObjective
    from textflow.reference.distill import plain_distill
    from textflow.schedules import LogitNormal
    from textflow.types import Given

    like = ELFObjective
    cases: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
        "walk, drawn times": (lambda: Distill(Progressive(4), 4), {}),
        "walk, even times": (lambda: Distill(Progressive(4, "even"), 4), {}),
        "walk, one step of the student": (lambda: Distill(Progressive(8), 1), {}),
        "walk, one substep": (lambda: Distill(Progressive(1), 8), {}),
        "walk, order 2": (lambda: Distill(Progressive(3, "even", order=2), 4), {}),
        "walk, order 2, drawn": (lambda: Distill(Progressive(4, order=2), 4), {}),
        "walk, re-injection": (lambda: Distill(Progressive(4, gamma=1.5), 4), {}),
        "walk, earlier self-condition": (lambda: Distill(Progressive(4, earlier=1.0), 4), {}),
        "walk, all of it": (lambda: Distill(Progressive(4, "even", 2, 1.0, 0.5), 4), {}),
        "walk, other law": (lambda: Distill(Progressive(4), 4, like(LogitNormal(0.0, 1.0), decode_share=0.4)), {}),
        "walk, stratified coins": (lambda: Distill(Progressive(4), 4, like(coins="stratified")), {}),
        "walk, head": (lambda: Distill(Progressive(4), 4), {"head": True}),
        "walk, head, stratified": (lambda: Distill(Progressive(4), 4, like(coins="stratified")), {"head": True}),
        "walk, prompts": (lambda: Distill(Progressive(4), 4, like(pads=True)), {"prompt": True}),
        "walk, prompts, earlier, order 2": (
            lambda: Distill(Progressive(4, "even", 2, 0.0, 1.0), 4, like(pads=True)), {"prompt": True},
        ),
        "walk, prompts, re-injection, stratified": (
            lambda: Distill(Progressive(4, gamma=1.0), 4, like(pads=True, coins="stratified")), {"prompt": True},
        ),
        "walk, half precision": (lambda: Distill(Progressive(4), 4, precision="bf16"), {}),
        "halving, truncated weight": (lambda: Distill(SalimansHo(), 4), {}),
        "halving, snr + 1": (lambda: Distill(SalimansHo("snr+1"), 4), {}),
        "halving, weight one": (lambda: Distill(SalimansHo("one"), 4, like(coins="stratified")), {}),
        "consistency": (lambda: Distill(Consistency(), 8), {}),
        "consistency, prompts": (lambda: Distill(Consistency(), 4, like(pads=True)), {"prompt": True}),
        "choosing everywhere": (lambda: Distill(Progressive(4), 4, choose=All()), {}),
        "choosing everywhere, fair": (lambda: Distill(Progressive(4), 4, choose=All(), fair=0.2), {}),
        "choosing in the tube": (lambda: Distill(Progressive(4, "even"), 4, choose=Tube(0.5)), {}),
        "choosing in the tube, fair": (lambda: Distill(Progressive(4), 4, choose=Tube(0.5), fair=0.3), {}),
        "choosing where sure, prompts": (
            lambda: Distill(Progressive(4), 4, like(pads=True), choose=Confident(0.2)), {"prompt": True},
        ),
        "choosing, latents in context": (
            lambda: Distill(Progressive(4), 4, choose=All()),
            {"codec": lambda vocab: Learned(vocab, DIM, width=16, heads=2)},
        ),
    }  # fmt: skip
    for key, (make, options) in cases.items():
        teacher = generator(objective=ELFObjective(), codec=options["codec"]) if "codec" in options else None
        made = taught(make(), teacher=teacher, **options)
        generators_steps(note, key, made, text("prompt" in options))

    reader = generator(objective=ELFObjective(), head=True)
    made = taught(Distill(Progressive(4), 4, choose=All(), fair=0.2), teacher=reader, head=True)
    generators_steps(note, "choosing by the teacher's head", made, text())

    for renew in (False, True):  # a second round, whose teacher is the first one's student or the first teacher
        first, root = taught(Distill(Progressive(4), 8, renew=renew)), generator(objective=ELFObjective())
        generators_steps(note, f"rounds, the first, {'renewed' if renew else 'one teacher'}", first, text())
        second = generator(objective=Distill(Progressive(8), 4, renew=renew))
        second.take_teacher(first if renew else root, first)
        generators_steps(note, f"rounds, the second, {'renewed' if renew else 'one teacher'}", second, text())

    made, batch = taught(Distill(Progressive(4), 4)), text()
    torch.manual_seed(3)
    x = made.clean(batch)
    draws = made.objective.like.draw(x)
    times = made.objective.walk(draws.t)
    note("times of a walk", times)
    note(
        "plain form", plain_distill(made.objective, made.net, made.objective.teacher, made.path, x, batch, draws, times)
    )
    note("lean form", made.objective.loss(made.net, made.path, x, batch, draws, times))
    for key, target in {"order 2": Progressive(4, order=2), "halving": SalimansHo()}.items():
        of = taught(Distill(target, 4))
        torch.manual_seed(4)
        with torch.no_grad():
            note(f"error of a target, {key}", target_error(of.objective, of.path, x, batch.mask, draws, 8))
    again = torch.tensor([0, 3])
    some = Given(w=draws.w)
    for key, target in {"walk": Progressive(4, "even"), "halving": SalimansHo(), "consistency": Consistency()}.items():
        of = taught(Distill(target, 4)).objective
        torch.manual_seed(6)
        walk = of.walk(draws.t)
        note(f"lesson, {key}", tuple(of.lesson(made.net, made.path, x, walk, some, again)))


@group("objectives: students of steps of any length")
def flow_students(note: Note, folder: Path) -> None:
    from textflow.distill import DistillFlow
    from textflow.distill.targets import Copy, Eulerian, Lagrangian, MeanFlow, SemiGroup
    from textflow.objectives import ELFObjective

    targets: dict[str, Callable[[], Any]] = {
        "semigroup": SemiGroup,
        "eulerian": lambda: Eulerian(floor=0.1),
        "lagrangian": lambda: Lagrangian(project=False),
        "mean flow": MeanFlow,
        "copy": Copy,
    }
    for key, make in targets.items():
        for coins in ("exact", "stratified"):
            teacher = generator(objective=ELFObjective(), net=elf(spans=True)) if key == "copy" else None
            objective = DistillFlow(make(), ELFObjective(coins=coins))
            made = taught(objective, teacher=teacher, net=elf(spans=True))
            generators_steps(note, f"{key}, {coins} coins", made, text())
    others = {
        "plain": DistillFlow(),
        "adaptive weight": DistillFlow(SemiGroup(), power=0.75, eps=1e-2),
        "few instant, many whole": DistillFlow(SemiGroup(), instant=0.2, whole=0.5),
        "few instant, stratified": DistillFlow(MeanFlow(), ELFObjective(coins="stratified"), instant=0.3, power=0.5),
    }
    for key, objective in others.items():
        generators_steps(note, key, taught(objective, net=elf(spans=True)), text())


@group("objectives: masks, next tokens, autoencoders")
def others(note: Note, folder: Path) -> None:
    from textflow.codecs import Learned, Table
    from textflow.discrete import SUBS
    from textflow.discrete.absorbing import Masking
    from textflow.discrete.mdlm import MDLM
    from textflow.models.autoencoder import Autoencoder
    from textflow.models.causal_lm import CausalLM
    from textflow.models.discrete_diffusion import Masked
    from textflow.paths import Linear
    from textflow.schedules import Uniform

    masked = {
        "masks": SUBS(),
        "masks, timed": SUBS(timed=True),
        "masks, times drawn": SUBS(spread=False),
        "masks, other schedule": SUBS(Masking(0.05), least=0.1),
    }
    for key, objective in masked.items():
        for dropout in (0.0, 0.1):
            for prompt in (False, True):
                torch.manual_seed(0)
                net = lambda vocab, dropout=dropout: MDLM(vocab, 16, depth=2, heads=2, cond=8, dropout=dropout)  # noqa: E731
                made = Masked(VOCAB, net, objective)
                stirred(made.net)
                more = (", dropout" if dropout else "") + (", prompts" if prompt else "")
                generators_steps(note, key + more, made, text(prompt))

    for prompt in (False, True):
        torch.manual_seed(0)
        made = CausalLM(VOCAB, width=16, depth=2, heads=2, length=LENGTH)
        generators_steps(note, f"next tokens{', prompts' if prompt else ''}", made, text(prompt))

    codecs: dict[str, Callable[[int], Any]] = {
        "in context": lambda vocab: Learned(vocab, DIM, width=16, heads=2),
        "in context, nothing hidden": lambda vocab: Learned(vocab, DIM, width=16, depth=2, heads=2, hide=0.0),
        "alone": lambda vocab: Learned(vocab, DIM, width=16, depth=0, heads=2),
        "table": lambda vocab: Table(vocab, DIM, learned=True),
    }
    for key, codec in codecs.items():
        for prompt in (False, True):
            torch.manual_seed(0)
            made = Autoencoder(VOCAB, codec)
            generators_steps(note, f"codec {key}{', prompts' if prompt else ''}", made, text(prompt))
            made.eval()
            with torch.no_grad():
                x = made.twin.encode(text().ids, text().mask)
                note(f"codec {key}{', prompts' if prompt else ''}, then encodes", x)
                note(f"codec {key}{', prompts' if prompt else ''}, then reads", made.twin.readout(x + 0.1))
    torch.manual_seed(0)
    made = Autoencoder(VOCAB, codecs["in context"], Linear(1.0), Uniform())
    generators_steps(note, "codec in context, other path and clock", made, text())


# --- 2. sampling

SEEDS = [11, 5, 902]


def samplers() -> dict[str, Any]:
    """Every sampler, in each of its forms."""
    from textflow.samplers import Euler, HeadStart, Heun, Multistep, Reinject, Relook, Renoise

    return {
        "euler": Euler(),
        "heun": Heun(),
        "multistep": Multistep(),
        "reinject released": Reinject(1.5),
        "reinject printed": Reinject(1.0, "printed"),
        "reinject exact": Reinject(1.0, "exact"),
        "renoise ancestral": Renoise(),
        "renoise afresh": Renoise(0.0),
        "renoise half": Renoise(0.5),
        "renoise half, ancestral where chosen": Renoise(0.5, "ancestral"),
        "renoise where chosen": Renoise(1.0, 0.0),
        "relook": Relook(),
        "relook without noise": Relook(0.0),
        "head start": HeadStart(),
        "head start, multistep": HeadStart(Multistep()),
    }


def escapes() -> dict[str, Any]:
    """Every escape by every gate; thresholds that cut the made-up posteriors in two."""
    from textflow.escapes import Commit, Confident, Fair, Margin, Schedule, Sharpen, Soft, Top, Tube

    return {
        "soft": Soft(),
        "mode": Commit(),
        "sampled": Commit("sample"),
        "sampled, cold": Commit("sample", temperature=0.3),
        "tube": Commit(gate=Tube(0.5)),
        "confident": Commit(gate=Confident(0.5)),
        "margin above": Commit(gate=Margin(0.7)),
        "margin below": Commit("sample", Margin(0.7, "below")),
        "top": Commit(gate=Top(0.4)),
        "schedule": Commit(gate=Schedule(0.1, 0.9)),
        "fair": Fair(),
        "fair, tube": Fair(Commit("sample", Tube(0.6)), 0.5),
        "sharpen": Sharpen(2.0, 5),
    }


def walked(note: Note, key: str, made: Any) -> None:
    """A sample: its ids, its final latents, and the way to them."""
    note(f"{key}, ids", made.ids)
    note(f"{key}, latents", made.trace.z)
    note(f"{key}, means on the way", torch.stack([belief.mean for belief in made.trace.beliefs]))


@group("sampling: every sampler with every escape")
def pairs_of_both(note: Note, folder: Path) -> None:
    made = generator()
    for sampler, step in samplers().items():
        for escape, choice in escapes().items():
            walked(note, f"{sampler}; {escape}", made.sample(SEEDS, 6, step, escape=choice))
    for escape, choice in escapes().items():
        for steps in (1, 2, 3):
            walked(note, f"euler; {escape}; {steps} steps", made.sample(SEEDS, steps, escape=choice))


@group("sampling: every clock")
def grids(note: Note, folder: Path) -> None:
    from textflow.escapes import Commit
    from textflow.schedules import DecodeError, Drawn, Flip, LogitNormal, Uniform

    made, batch = generator(), text(rows=64)
    flip, error = Flip(points=9), DecodeError(points=17)
    made.measure(batch, [flip, error])
    clocks = {
        "logit-normal": LogitNormal(),
        "uniform": Uniform(),
        "drawn": Drawn(LogitNormal(), 3),
        "drawn from flips": Drawn(flip),
        "flips": flip,
        "decode error": error,
    }
    for clock, grid in clocks.items():
        for steps in (1, 2, 3, 7):
            note(f"{clock}, grid of {steps}", grid.grid(steps))
        for sampler, step in samplers().items():
            walked(note, f"{sampler}; {clock}", made.sample(SEEDS, 5, step, escape=Commit(), grid=grid))
    own = generator(grid=flip)
    walked(note, "a grid of its own", own.sample(SEEDS, 4))


@group("sampling: readouts, guidance, early stops, ends of steps, nets of other kinds")
def ways(note: Note, folder: Path) -> None:
    from textflow.codecs import Learned
    from textflow.escapes import Commit, Tube
    from textflow.noise import sample_seeds
    from textflow.objectives import ELFObjective
    from textflow.readouts import FromBelief, FromCodec, FromNet, Matched
    from textflow.samplers import EarlyStop, Euler, HeadStart, Multistep, Reinject, Renoise

    readouts = {"net": FromNet(), "matched": Matched(3.0), "codec": FromCodec(), "belief": FromBelief()}
    for last, final in readouts.items():
        for way, tokens in readouts.items():
            made = generator(readout=final, tokens=tokens, head=True)
            walked(note, f"read by {last}, on the way by {way}", made.sample(SEEDS, 5, Reinject(1.0), escape=Commit()))
        z = made.sample(SEEDS, 3).trace.z
        if last != "belief":
            with torch.no_grad():
                note(f"logits by {last}", made.logits(z))
    made = generator()
    for guidance in (0.5, 1.0, 3.0):
        walked(note, f"guidance {guidance}", made.sample(SEEDS, 5, guidance=guidance, escape=Commit(gate=Tube(0.5))))
    walked(note, "another length", made.sample(SEEDS, 4, Reinject(1.5), length=20))
    note("numbered seeds", sample_seeds(7, 3, 5))

    for lead, share, patience in ((0.5, 0.3, 1), (0.3, 0.5, 2), (3.0, 0.0, 1)):
        stop = EarlyStop(lead, share, patience)
        for key, step in {"euler": Euler(), "reinject": Reinject(1.0), "multistep": Multistep()}.items():
            for escape, choice in {"soft": None, "sampled": Commit("sample")}.items():
                made = generator(stop=stop)
                walked(
                    note,
                    f"early stop {lead} {share} {patience}; {key}; {escape}",
                    made.sample(SEEDS, 9, step, escape=choice),
                )
    for escape, choice in {"soft": None, "mode": Commit()}.items():
        for key, step in {"euler": Euler(), "renoise": Renoise(0.0), "head start": HeadStart()}.items():
            made = generator(net=elf(spans=True))
            walked(note, f"told the end of a step; {key}; {escape}", made.sample(SEEDS, 4, step, escape=choice))
    made = generator(codec=lambda vocab: Learned(vocab, DIM, width=16, heads=2))
    for escape, choice in escapes().items():
        walked(note, f"latents in context; {escape}", made.sample(SEEDS, 5, Renoise(), escape=choice))
    flow = generator(net=lambda dim, vocab: dit(0, True), codec=one_hot, readout=FromBelief(), tokens=FromBelief())
    for escape, choice in {"soft": None, "mode": Commit(), "sampled": Commit("sample")}.items():
        walked(note, f"a flow map over one-hot tokens; {escape}", flow.sample(SEEDS, 4, escape=choice))
    made = generator(objective=ELFObjective(), net=elf(depth=4, dropout=0.5))
    walked(note, "dropout is off", made.sample(SEEDS, 4))


def one_hot(vocab: int) -> Any:
    """A table of one-hot codes: DiT is as wide as there are tokens."""
    from textflow.codecs import Table

    made = Table(vocab, vocab)
    made.table.data.copy_(torch.eye(vocab))
    return made


@group("sampling: prompts, holes, texts")
def prompts(note: Note, folder: Path) -> None:
    from tests.helpers.word_tokenizer import Words
    from textflow.codecs import Learned
    from textflow.escapes import Commit, Fair, Sharpen, Soft, Tube
    from textflow.models.infilling import answers, continued, infilled, tensors, told
    from textflow.objectives import ELFObjective
    from textflow.samplers import Prompt
    from textflow.samplers.prompt import answer, ended

    words = Words(["<eos>", "<unk>", *(f"w{i}" for i in range(2, VOCAB))])

    def codec(vocab: int) -> Any:
        return Learned(vocab, DIM, width=16, heads=2)

    holes = torch.tensor([[1, 1, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0], [0] * 12, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1]]).bool()
    starts = torch.arange(LENGTH)[None] < torch.tensor([3, 5, 1])[:, None]
    ids = torch.randint(2, VOCAB, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    choices = {"soft": Soft(), "mode": Commit(), "sampled": Commit("sample"), "tube": Commit(gate=Tube(0.5))}
    choices |= {"fair": Fair(), "sharpen": Sharpen(2.0, 3)}
    for kind, options in {"table": {}, "in context": {"codec": codec}}.items():
        plain = generator(**options)
        paired = generator(objective=ELFObjective(pads=True), drop=0.1, prompt_guidance=2.0, **options)
        paired.given = 6
        plain.tokenizer = paired.tokenizer = words
        for sampler, step in samplers().items():
            for escape, choice in (choices if kind == "table" else {"mode": Commit()}).items():
                note(f"{kind}; holes; {sampler}; {escape}", plain.complete(ids, holes, SEEDS, 5, step, escape=choice))
                for scale in (None, 1.0, 3.0) if escape == "mode" else (None,):
                    found = paired.complete(ids, starts, SEEDS, 5, step, scale=scale, escape=choice)
                    note(f"{kind}; prompts; {sampler}; {escape}; guided {scale}", found)
        made = paired.sample(SEEDS, 4, prompt=paired.prompt(ids, starts, 3.0), guidance=2.0)
        walked(note, f"{kind}; prompts, the way", made)
        walked(
            note, f"{kind}; holes, the way", plain.sample(SEEDS, 4, prompt=plain.prompt(ids, holes), escape=Commit())
        )
        note(f"{kind}; answers", answers(paired, made.ids, starts))
        note(f"{kind}; generated", plain.generate(5, 4, seed=3, batch_size=2))
        note(f"{kind}; generated, from the second on", plain.generate(2, 4, seed=3, first=1, escape=Commit()))
    with torch.no_grad():
        clean = paired.clean(text(True))
        bare = Prompt(clean[:3], text(True).fixed[:3], 2.0)
    walked(note, "latents alone are given", paired.sample(SEEDS, 4, prompt=bare))
    note("what comes after", answer(ids, starts, 8, 39))
    note("what comes after its end", ended(torch.tensor([[3, 7, 3], [7, 1, 2], [1, 2, 3]]), 7, 0))

    for key, row in {
        "goes on": continued(words, "w5 w6 w7", LENGTH),
        "goes on, a source": continued(words, "w5 w6 w7", LENGTH, 6),
        "filled": infilled(words, "w5 [MASK:3] w8 w9 [MASK:2] w3", LENGTH),
    }.items():
        note(f"{key}, row", (row.ids, [int(known) for known in row.known], row.until))
        given, fixed = tensors([row])
        found = plain.complete(given, fixed, [4], 5, escape=Commit())
        note(f"{key}, ids", found)
        note(f"{key}, told", [part for known, part in told(words, row, found[0].tolist())])


@group("sampling: masks and next tokens")
def discrete(note: Note, folder: Path) -> None:
    from tests.helpers.word_tokenizer import Words
    from textflow.discrete import SUBS, Unmask
    from textflow.discrete.mdlm import MDLM
    from textflow.models.autoregressive import NextToken
    from textflow.models.causal_lm import CausalLM
    from textflow.models.discrete_diffusion import Masked
    from textflow.noise import Noise
    from textflow.samplers.categorical import invert, race
    from textflow.schedules import LogitNormal, Uniform

    words = Words(["<eos>", *(f"w{i}" for i in range(1, VOCAB))])
    ids = torch.randint(1, VOCAB, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    holes, starts = (
        torch.arange(LENGTH)[None].expand(3, -1) % 3 == 0,
        torch.arange(LENGTH)[None] < torch.tensor([[3], [0], [5]]),
    )
    ways = {"": Unmask(), "gumbel": Unmask(draws="gumbel"), "cold": Unmask(0.5), "many left": Unmask(left=0.2)}
    for timed in (False, True):
        torch.manual_seed(0)
        model = Masked(VOCAB, lambda vocab: MDLM(vocab, 16, depth=2, heads=2, cond=8), SUBS(timed=timed))
        model.net.load_state_dict(stirred(model.twin).state_dict())
        model.tokenizer, model.length = words, LENGTH
        model.eval()
        kind = "timed masks" if timed else "masks"
        for way, step in ways.items():
            for clock, grid in {"uniform": Uniform(), "logit-normal": LogitNormal()}.items():
                for steps in (1, 4, 12):
                    note(f"{kind}; {way}; {clock}; {steps} steps", model.sample(SEEDS, steps, step, grid=grid))
            note(f"{kind}; {way}; holes", model.complete(ids, holes, SEEDS, 5, step))
        note(f"{kind}; generated", model.generate(4, 5, seed=2, batch_size=3))
        with torch.no_grad():
            note(f"{kind}; what is believed", model.predict(ids.masked_fill(~holes, VOCAB), 0.4)[..., :VOCAB].exp())

    torch.manual_seed(0)
    model = CausalLM(VOCAB, width=16, depth=2, heads=2, length=LENGTH)
    model.net.load_state_dict(stirred(model.twin).state_dict())
    model.tokenizer, model.length = words, LENGTH
    model.eval()
    for way, step in {"": NextToken(), "cold": NextToken(0.4), "nucleus": NextToken(1.3, 0.6)}.items():
        note(f"next tokens; {way}", model.sample(SEEDS, step))
        note(f"next tokens; {way}; short", model.sample(SEEDS, step, length=5))
        note(f"next tokens; {way}; goes on", model.complete(ids, starts, SEEDS, sampler=step))
    note("next tokens; generated", model.generate(4, seed=2, batch_size=3))

    law = torch.rand(20, 7, generator=torch.Generator().manual_seed(0))
    noise = Noise(range(20))
    note("inverted", invert(law, noise.uniform(1)[:, 0]))
    note("raced", race(law, noise.uniform(7)))
    note("streams", (noise.normal(3, 2), noise.uniform(4), noise.normal_like(torch.zeros(20, 2, 2))))


# --- 3. diagnostics and oracles


@group("diagnostics: worlds whose posterior is known")
def known_worlds(note: Note, folder: Path) -> None:
    from tests.helpers.independent_tokens import First, atoms, met, pair, streams
    from textflow.diagnostics.ablation import Ablated, ablation
    from textflow.diagnostics.cci import cci, cci_info, evidence, fed_of, forced_nll
    from textflow.diagnostics.dabi import Response, adversarial, dabi, respond, smooth, summary, sweep
    from textflow.diagnostics.decoder_temperature import blunt
    from textflow.diagnostics.density import boundary_density, density_at
    from textflow.diagnostics.facets import facets, joint_facets
    from textflow.diagnostics.margins import early_exit, fit_threshold, margins
    from textflow.diagnostics.metric import Meter
    from textflow.diagnostics.residual import channel_blur, seeds_of, terminal
    from textflow.diagnostics.rollin import cumulative, depth, rates, rollin
    from textflow.diagnostics.rowspace import row_fraction, row_space, seen_directions
    from textflow.diagnostics.sensitivity import sensitivity
    from textflow.diagnostics.stiffness import stiffness
    from textflow.diagnostics.tube import law, positions, surrogate, tube
    from textflow.escapes import Commit
    from textflow.noise import Noise
    from textflow.samplers import Euler, Heun, Multistep, Renoise, sample

    rows, length, times = 8, 20, [0.0, 0.2, 0.5, 0.8, 1.0]
    for name, world in {
        "two codes": pair(2.0, 4, 3.0),
        "codes": atoms(16, 8, 0.0),
        "clouds": atoms(12, 4, 0.4),
    }.items():
        seen = met(world, 0.5, rows, length)
        mask = torch.arange(length)[None] < torch.arange(length - rows, length)[:, None]
        seen = seen._replace(mask=mask)
        real = (world.read, seen.x, seen.guess, mask)
        note(f"{name}, met", (seen.x, seen.z, tuple(seen.belief[:2]), seen.residual))
        note(
            f"{name}, met twice",
            terminal(world.denoise, world.path, seen.x, mask, 0.4, Noise(range(rows)), 2).belief.mean,
        )
        note(f"{name}, streams", seeds_of(Noise(range(rows))))

        basis = row_space(world.weights)
        for control in ("full", "shuffled", "row"):
            note(f"{name}, dabi, {control}", dabi(*real, streams(rows), draws=3, control=control, row_basis=basis))
        note(f"{name}, dabi at several lengths", sweep(*real, streams(rows), draws=2))
        part = respond(*real, streams(rows), 0.8, 2)
        note(f"{name}, response", tuple(part))
        note(f"{name}, response summed up", summary(part, 0.8, 2))
        meter = Meter(Response, lambda part: {"value": summary(part, 0.8, 2).loss.value})
        for some in (slice(0, 3), slice(3, rows)):
            meter.update(Response(*(each[some] for each in part)))
        note(f"{name}, metered", meter.compute())
        note(f"{name}, smooth", smooth(lambda z: (z**2).cumsum(-1), *real[1:], streams(rows), draws=3))
        note(f"{name}, blunt", [(one.amount, one.dabi) for one in blunt(*real, streams(rows), draws=2)])

        facet = facets(world.read, seen.x, seen.residual, 31)
        few = facets(world.read, seen.x, seen.residual, 2, world.weights)
        note(f"{name}, facets", tuple(facet))
        note(f"{name}, facets of few candidates", tuple(few))
        note(f"{name}, facets of whole rows", tuple(joint_facets(world.read, seen.x, seen.residual, [0, 3])))
        note(f"{name}, adversarial", adversarial(seen.x, seen.guess, mask, facet))
        at = positions(world.read, seen, world.path, facet, streams(rows), draws=3)
        note(f"{name}, tube, positions", tuple(at))
        note(f"{name}, tube", tube(at, 0.5, channel_blur(world.path, 0.5), rows, 3))
        note(f"{name}, tube, law", (law(0.3, 0.7), channel_blur(world.path, 0.3)))
        note(f"{name}, tube, surrogate", surrogate(world.read, seen.x, mask, 0.5, streams(rows), 3))
        note(f"{name}, density", boundary_density(facet.distance[mask]))
        note(f"{name}, density further off", density_at(facet.distance[mask], 0.5, 0.3))
        note(f"{name}, density, separated", boundary_density(facet.distance[mask]).separated)

        for readings, tokens in {"means": None, "posteriors": lambda z, t, belief: 1.5 * belief.logits}.items():
            alone = rollin(world.denoise, world.read, world.path, seen.x, mask, times, streams(rows), tokens)
            whole = cumulative(
                world.denoise, Euler(), world.read, world.path, seen.x, mask, times, streams(rows), tokens
            )
            note(f"{name}, roll-in, {readings}", [tuple(one) for one in alone])
            note(f"{name}, whole walks, {readings}", [tuple(one) for one in whole])
            found = depth(alone, whole, times)
            note(f"{name}, depth, {readings}", tuple(found))
            note(f"{name}, depth, {readings}, excess", [one.excess_flip for one in (*found.rolls, found.final)])
            note(f"{name}, rates, {readings}", rates(alone[0], 0.2))

        directions = seen_directions(world.read, seen.x, mask, streams(rows))
        note(f"{name}, seen directions", directions.T @ directions)
        note(f"{name}, row space", basis.T @ basis)
        note(f"{name}, row fraction", row_fraction(seen.x, seen.guess, mask, basis[:1]))
        around = sensitivity(world.read, seen.x, seen.residual, streams(rows), mask, 3, (0.0, 0.1))
        note(f"{name}, sensitivity", around)
        note(f"{name}, sensitivity, summary", around.summary())
        note(f"{name}, sensitivity, radius", around.rho("residual"))

        noise = Noise(range(100, 100 + rows))
        start = world.path.mix(0 * seen.x, noise.normal_like(seen.x), 0.0)
        for way, sampler in {
            "euler": Euler(),
            "heun": Heun(),
            "multistep": Multistep(),
            "renoise": Renoise(0.5),
        }.items():
            trace = sample(world.denoise, sampler, world.path, times, start, Noise(range(200, 200 + rows)))
            seen_margins = margins(trace, mask=mask)
            note(f"{name}, margins, {way}", seen_margins)
            note(f"{name}, margins, {way}, summary", seen_margins.summary())
            note(f"{name}, margins of read means, {way}", margins(trace, world.read).lead)
            fitted = fit_threshold(seen_margins.lead, seen_margins.agrees, mask, 0.1, 0.2, 1)
            note(f"{name}, early exit, {way}, fitted", fitted)
            note(f"{name}, early exit, {way}", early_exit(seen_margins.lead, 1.0, mask, 0.2, 1))
            note(
                f"{name}, stiffness, {way}",
                stiffness(
                    lambda streams: world.denoise, sampler, world.path, times, start[:2, :4],
                    Noise([1, 2]), Noise([3, 4]), iterations=3, starts=2,
                ),
            )  # fmt: skip

        def chosen(escape: Any, streams: Noise, world: Any = world) -> Any:
            def denoise(z: Tensor, t: float, prev: Tensor | None = None) -> Any:
                belief = world.denoise(z, t)
                return escape(belief, t, lambda: belief.logits, lambda ids: world.codes[ids], streams)

            return denoise

        ids = {}
        for escape, make in {"mode": Commit, "sampled": lambda: Commit("sample"), "one by one": First}.items():
            for fed, choice in {"": make(), "ablated ": Ablated(make())}.items():
                trace = sample(chosen(choice, Noise(range(rows))), Euler(), world.path, times, start, noise)
                final = world.read(trace.z).argmax(-1)
                given, weight = (
                    fed_of(trace),
                    [evidence(world.read, seen.x, mask, world.path, t, streams(rows)) for t in trace.times],
                )
                found = cci(given, final, weight, mask)
                ids[fed + escape] = final
                note(f"{name}, cci, {fed}{escape}", found)
                note(f"{name}, cci, {fed}{escape}, evidence", weight)
                forced = forced_nll([belief.logits for belief in trace.beliefs], final, found.decided, mask)
                note(f"{name}, cci, {fed}{escape}, forced", forced)
            lost = ablation(ids[escape], ids[f"ablated {escape}"], lambda ids: ids.double().mean(1), mask)
            note(f"{name}, ablation, {escape}", lost)
            note(f"{name}, ablation, {escape}, change", lost.relative_change)
        note(f"{name}, stiffness, sampled choices", stiffness(
            lambda streams: chosen(Commit("sample"), streams), Euler(), world.path, times, start[:2, :4],
            Noise([1, 2]), Noise([3, 4]), iterations=2, starts=1, carry=False,
        ))  # fmt: skip
    note("cci in information", cci_info(3.0, 2.5, 1.0))


@group("diagnostics: intervals and spectra")
def spectra(note: Note, folder: Path) -> None:
    from textflow.diagnostics.bootstrap import Size, percentile, ratio, resampled, upper_rate
    from textflow.diagnostics.spectral import spectral_norm
    from textflow.noise import Noise

    noise = Noise([3])
    u = noise.uniform(3, 40)[0]
    size = Size(160, 40, 2)
    note("ratio", ratio(-3 * u[0].log(), -u[1].log(), torch.full((40,), 4.0).double(), size))
    note("ratio above a floor", ratio(u[0], 1e-9 * u[1], torch.full((40,), 4.0).double(), size, floor=1e-3))
    note("ratio of few events", ratio(u[0], (u[1] > 0.95).double(), torch.full((40,), 4.0).double(), size, events=True))
    note("resampled", resampled(20, 50, 3))
    note("percentile", percentile(u[2], 0.3))
    note("upper rates", [upper_rate(k, n) for k, n in ((0, 50), (1, 10), (4, 10), (40, 1000), (10, 10))])
    turn = torch.linalg.qr(noise.normal(12, 12)[0].double())[0]
    maps = (
        turn
        @ torch.diag(torch.linspace(0.1, 3, 12).double())
        @ turn[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    )

    def times(m: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda v: (v.flatten(1) @ m.T).unflatten(1, v.shape[1:])

    starts = Noise(range(2)).normal(3, 4, 3).double().transpose(0, 1)
    for iterations in (1, 3, 8):
        note(f"spectral norm, {iterations}", tuple(spectral_norm(times(maps), times(maps.T), starts, iterations)))


def watches() -> dict[str, Any]:
    """Every callback that measures."""
    from textflow.diagnostics import CCI, DABI, Blunt, Margins, RollIn, RowSpace, Stiffness, Tube

    return {
        "dabi": DABI(steps=4, draws=2),
        "tube": Tube(steps=4, candidates=3),
        "roll-in": RollIn(steps=3),
        "row space": RowSpace(steps=3),
        "blunt": Blunt(steps=3, draws=2),
        "cci": CCI(steps=4),
        "margins": Margins(steps=4),
        "stiffness": Stiffness(steps=2, iterations=2),
    }


@group("diagnostics: what callbacks measure of generators and codecs")
def watched(note: Note, folder: Path) -> None:
    from textflow.codecs import Learned, Table
    from textflow.escapes import Commit
    from textflow.models.autoencoder import Autoencoder
    from textflow.noise import Noise
    from textflow.objectives import ELFObjective
    from textflow.oracle import WORLDS
    from textflow.readouts import FromBelief
    from textflow.samplers import Renoise
    from textflow.types import Batch

    batch, paired = text(rows=6), text(True, rows=6)
    models = {
        "a teacher": (generator(), batch),
        "a teacher that chooses": (generator(escape=Commit(), sampler=Renoise()), batch),
        "a teacher that samples, head": (generator(escape=Commit("sample"), head=True, tokens=FromBelief()), batch),
        "latents in context": (generator(codec=lambda vocab: Learned(vocab, DIM, width=16, heads=2)), batch),
        "prompts": (generator(objective=ELFObjective(pads=True), escape=Commit(), sampler=Renoise()), paired),
    }
    models["prompts"][0].given = 5
    for key, (model, rows) in models.items():
        for name, watch in watches().items():
            note(f"{key}, {name}", dict(watch.measure(model, rows, Noise(range(6)))))
    for key, codec in {
        "codec in context": lambda vocab: Learned(vocab, DIM, width=16, heads=2),
        "table": lambda vocab: Table(vocab, DIM, learned=True),
    }.items():
        torch.manual_seed(0)
        model = Autoencoder(VOCAB, codec)
        model.net.train().encode(text().ids)
        model.twin.load_state_dict(model.net.state_dict())
        model.eval()
        for name in ("dabi", "tube", "row space", "blunt"):
            note(f"{key}, {name}", dict(watches()[name].measure(model, batch, Noise(range(6)))))
    for name in ("chain", "text"):
        world = WORLDS[name](0)
        ids = world.draw(Noise(range(4)))
        model = world.generator(escape=Commit(), sampler=Renoise())
        real = Batch(ids, torch.ones_like(ids, dtype=torch.bool))
        for kind, watch in watches().items():
            if kind != "stiffness":
                note(f"world {name}, {kind}", dict(watch.measure(model, real, Noise(range(4)))))


@group("oracles: worlds, readers, scores")
def oracles(note: Note, folder: Path) -> None:
    from textflow.escapes import Commit
    from textflow.noise import Noise
    from textflow.oracle import WORLDS, Imperfect, Yardstick, autoregressive, masked
    from textflow.oracle.coarea import Curved, coarea
    from textflow.oracle.separated import (
        Cells,
        balanced,
        blocks,
        isoperimetric,
        missed,
        missed_by_two,
        normalised,
        perimeter,
        products,
        simplex,
        slabs,
        slope,
    )  # fmt: skip
    from textflow.readouts import FromBelief
    from textflow.samplers import Euler, Multistep, Reinject, Renoise
    from textflow.schedules import Uniform
    from textflow.types import Given

    for name, make in WORLDS.items():
        world, rows = make(0), 16
        prior = world.prior
        note(f"{name}, law", (prior.initial, prior.transition, world.codec.codes, prior.legal))
        ids = world.draw(Noise(range(rows)))
        x = world.codec.latents(ids, Noise(range(500, 500 + rows))).double()
        z = world.path.mix(x, Noise(range(900, 900 + rows)).normal_like(x), 0.4)
        t, fixed = torch.full((rows,), 0.4).double(), torch.arange(32).expand(rows, -1) % 3 == 0
        note(f"{name}, texts", (ids, x, prior.nll(ids), prior.topics(ids)))
        for kind, net in {
            "exact": world.denoiser,
            "forgetful": Imperfect(world.exact, lam=0.3),
            "sharp": Imperfect(world.exact, beta=2.0),
            "wrong": Imperfect(world.exact, 0.1, 1.5, 0.5, seed=1),
        }.items():
            note(f"{name}, {kind}", tuple(net(z, t)[:2]))
            note(f"{name}, {kind}, prompted", tuple(net(z, t, Given(clean=x, fixed=fixed))[:2]))
        note(f"{name}, jointly", world.exact.joint(z, t[:, None].expand(-1, 32), Noise(range(rows))))
        yard = Yardstick(prior, world.truths(rows))
        readings = {
            "truth": ids,
            "token by token": autoregressive(world, Noise(range(rows))).ids,
            "token by token, soft": autoregressive(world, Noise(range(rows)), soft=True).ids,
            "masked": masked(world, 4, Noise(range(rows))).ids,
            "masked, dilated, soft": masked(world, 8, Noise(range(rows)), "dilated", soft=True).ids,
        }
        note(f"{name}, what was fed", masked(world, 4, Noise(range(rows))).fed)
        for kind, (sampler, escape) in {
            "ode": (Euler(), None),
            "ode, second order": (Multistep(), None),
            "mode": (Renoise(), Commit()),
            "sampled": (Reinject(1.0), Commit("sample")),
        }.items():
            for last in ("codec", "belief"):
                options = {"readout": FromBelief()} if last == "belief" else {}
                model = world.generator(sampler=sampler, grid=Uniform(), **options)
                readings[f"{kind}, by the {last}"] = model.sample(list(range(rows)), 6, escape=escape).ids
        for kind, found in readings.items():
            note(f"{name}, {kind}, ids", found)
            note(f"{name}, {kind}, score", yard.score(found, Noise([1]), 20))

    modes, ratios = [2, 3, 8, 64, 1024], [0.5, 2.0, 8.0]
    note("slabs", [slabs(m) for m in modes])
    note("products", [products(m, 3) for m in modes])
    for key, of in {"simplex": simplex, "isoperimetric": isoperimetric, "normalised": normalised}.items():
        note(key, of(modes))
    note("missed", [missed(m, ratios) for m in modes[:4]])
    note("missed by two", missed_by_two(ratios))
    note("blocks", blocks(2**12, [1, 2, 3, 4]))
    note("slope", slope(ratios, missed(3, ratios)))
    note("perimeter", tuple(perimeter(Cells(torch.eye(4).double(), torch.zeros(4).double()), Noise([5]), 64, 2)))
    note("balanced", tuple(balanced(8, 6, Noise([7]), each=16)))
    note("coarea", tuple(coarea(Curved(), Noise([0]), 20_000, points=256)))


# --- 4. clocks, paths, nets, codecs, data


@group("clocks and paths")
def clocks(note: Note, folder: Path) -> None:
    from tests.schedules.test_flip_rate import PATH, exact, read
    from tests.schedules.test_flip_rate import text as coded
    from textflow.discrete.absorbing import Masking
    from textflow.distill.targets.base import share
    from textflow.nets.dit import cdf
    from textflow.noise import Noise
    from textflow.paths import Linear
    from textflow.schedules import DecodeError, Drawn, Flip, LogitNormal, Uniform

    flip, few, error = Flip(), Flip(0.3, 0.05, 9), DecodeError(0.2, 17)
    x, batch = coded(40, 30)
    for i, clock in enumerate((flip, few, error)):
        torch.manual_seed(i)
        clock.measure(read, PATH, x, batch, exact)
    assumed = {"flips, assumed": Flip(points=9), "decode error, assumed": DecodeError(points=9)}
    for clock in assumed.values():
        clock.assume_uniform()
    every = {
        "uniform": Uniform(),
        "logit-normal": LogitNormal(),
        "logit-normal, later": LogitNormal(0.8, 1.2),
        "drawn": Drawn(LogitNormal(), 4),
        "flips": flip,
        "flips, few points": few,
        "decode error": error,
    } | assumed
    q = torch.linspace(0, 1, 41, dtype=torch.float64)
    for name, clock in every.items():
        note(f"{name}, quantiles", clock.icdf(q))
        note(f"{name}, buffers", sorted(sha(buffer) for buffer in clock.buffers()))
        torch.manual_seed(3)
        note(f"{name}, draws", clock.draw(4, 3))
        note(f"{name}, shares", cdf(clock, torch.linspace(0.05, 0.95, 9)))
        for steps in (1, 2, 3, 4, 8, 32):
            note(f"{name}, grid of {steps}", clock.grid(steps))
            note(f"{name}, drawn grid of {steps}", clock.grid(steps, Noise([7])))

    stream = torch.Generator().manual_seed(0)
    for kind in (torch.float32, torch.float64):
        z, x, eps = (torch.randn(5, 3, 2, generator=stream, dtype=kind) for _ in range(3))
        s = torch.tensor([0.0, 0.2, 0.5, 0.9, 0.97], dtype=kind)
        u = torch.tensor([0.3, 0.2, 0.75, 1.0, 1.0], dtype=kind)
        for name, path in {"linear": Linear(), "clamped": Linear(1.0, 0.3), "free": Linear(2.0, 1e-9)}.items():
            key = f"{name}, {str(kind)[6:]}"
            note(f"{key}, levels", (path.alpha(s), path.sigma(s)))
            for kinds, (t, v) in {"a time a row": (s, u), "one time": (0.4, 0.7), "to the text": (0.4, 1.0)}.items():
                note(f"{key}, mixed, {kinds}", path.mix(x, eps, t))
                note(f"{key}, velocity, {kinds}", path.velocity(z, x, t))
                note(f"{key}, step, {kinds}", path.step(z, x, t, v))
                note(f"{key}, rewound, {kinds}", path.rewind(z, eps, v, t))
            note(f"{key}, shares of a step", share(path, s, u))
    t = torch.linspace(0, 0.95, 6, dtype=torch.float64)
    ids = torch.randint(9, (6, 8), generator=stream)
    uniform = torch.rand(6, 8, generator=stream, dtype=torch.float64)
    for name, masking in {"masking": Masking(), "masking, floor": Masking(0.1)}.items():
        note(name, (masking.kept(t), masking.sigma(t), masking.rate(t), masking.weight(t)))
        note(f"{name}, hidden", masking.hide(ids, uniform, t, 9))


@group("nets")
def nets(note: Note, folder: Path) -> None:
    from textflow.discrete.mdlm import MDLM, subs
    from textflow.nets import ELF
    from textflow.nets.dit import DiT, Residual
    from textflow.paths import Linear
    from textflow.types import Given

    stream = torch.Generator().manual_seed(0)
    z, prev = (torch.randn(3, 5, DIM, generator=stream) for _ in range(2))
    t, w, until = (torch.rand(3, generator=stream) for _ in range(3))
    ids = torch.randint(VOCAB, (3, 5), generator=stream)
    size = {"width": 16, "depth": 4, "heads": 2, "bottleneck": 8}
    for name, options in {
        "elf": {},
        "elf, head": {"head": True},
        "elf, spans": {"spans": True},
        "elf, other tokens": {"time_tokens": 1, "guidance_tokens": 2, "mode_tokens": 3, "hidden": 20},
        "elf, dropout": {"dropout": 0.4},
    }.items():
        torch.manual_seed(0)
        net = ELF(DIM, VOCAB, **size | options)
        note(f"{name}, as it begins", weights(net))
        stirred(net).train()
        for key, given in {
            "alone": Given(),
            "told": Given(prev, 4 * w, until),
            "after a prompt": Given(prev, w, None, z, torch.arange(5)[None].expand(3, 5) < 2),
        }.items():
            torch.manual_seed(1)
            note(f"{name}, {key}", [part for part in net(z, t, given)[:2] if part is not None])
            decode = torch.tensor([True, False, True])
            hidden = net.trunk(z, t, given, decode)
            note(f"{name}, {key}, hidden", hidden)
            note(f"{name}, {key}, surprise", net.nll(hidden[decode].flatten(0, 1), ids[decode].flatten()))
            note(f"{name}, {key}, read", net.eval().decode(z, t, given))
            note(f"{name}, {key}, tokens", net.tokens(z, t, given))
            net.train()
    x = torch.randn(3, 5, VOCAB, generator=stream).softmax(-1)
    for name, options in {
        "dit": {},
        "dit, spans": {"spans": True, "attention_cap": None},
        "dit, all": {"spans": True, "logit_cap": 30.0, "weighting": True},
    }.items():
        torch.manual_seed(0)
        note(f"{name}, as it begins", weights(DiT(VOCAB, VOCAB, 16, 2, 2, 8, **options)))
        net = dit(0, **{"spans": False} | options)
        note(f"{name}", tuple(net(x, t)[:2]))
        note(f"{name}, told", tuple(net(x, t, Given(until=until))[:2]))
        note(f"{name}, expected", net.expected(t))
    bend = Residual(dit(0, False), dit(1, True), Linear(1.0))
    note("bent", (bend(x, t).mean, bend(x, t, Given(until=until)).mean))
    torch.manual_seed(0)
    net = MDLM(VOCAB, 16, depth=2, heads=2, cond=8)
    note("masks, as it begins", weights(net))
    stirred(net).eval()
    some = ids.masked_fill(torch.arange(5) % 2 == 0, VOCAB)
    note("masks", (net(some, t), net.logits(net(some, t))))
    note("masks, law", subs(net.logits(net(some, t)), some, VOCAB).exp())


@group("codecs")
def codecs(note: Note, folder: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    from textflow.codecs import T5, Learned, Table
    from textflow.codecs.prefix_mask import blank, sight, unended

    batch = text(True)
    dropped = torch.arange(ROWS) % 3 == 0
    masks = {
        "everything": None,
        "text": batch.mask,
        "prompts": sight(batch.mask, batch.fixed),
        "dropped": sight(batch.mask, batch.fixed, dropped),
    }
    note("who sees whom", (masks["prompts"], masks["dropped"]))
    note("up to the end", (unended(batch.ids, batch.fixed, 3, 0), unended(batch.ids, batch.fixed, 3, 3)))
    torch.manual_seed(0)
    config = T5Config(vocab_size=VOCAB + 2, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.1)
    T5EncoderModel(config).save_pretrained(folder)
    made = {
        "table": Table(VOCAB, DIM),
        "table, learned": Table(VOCAB, DIM, learned=True),
        "in context": Learned(VOCAB, DIM, width=16, heads=2),
        "in context, deep": Learned(VOCAB, DIM, width=16, depth=2, heads=4, hide=0.0),
        "alone": Learned(VOCAB, DIM, width=16, depth=0, heads=2, hide=0.6),
        "t5": T5(VOCAB, str(folder), 16, 0.1, 0.5),
    }
    for name, codec in made.items():
        note(f"{name}, as it begins", weights(codec))
        for training in (True, False):
            codec.train(training)
            for key, mask in masks.items():
                torch.manual_seed(1)
                x = codec.encode(batch.ids, mask)
                note(f"{name}, {'training' if training else 'still'}, {key}", x)
                note(
                    f"{name}, {'training' if training else 'still'}, {key}, without prompts",
                    blank(x, batch.fixed, dropped),
                )
                if codec.reads:
                    note(
                        f"{name}, {'training' if training else 'still'}, {key}, read",
                        codec.readout(x + 0.2 * torch.randn_like(x)),
                    )
        note(f"{name}, buffers", sorted(sha(buffer) for buffer in codec.buffers()))


@group("text, rows, batches")
def rooms(note: Note, folder: Path) -> None:
    import random
    from itertools import islice

    from tests.data.conftest import Letters, Made
    from tests.helpers.tiny_recipe import lines, write_recipe as recipe
    from textflow.data import Bible, DataModule, Files, Mixture, PairFiles, SentencePiece, Split, Tokenizer
    from textflow.data.samplers import Endless, Once

    def rows_of(key: str, **options: Any) -> Any:
        defaults = {"source": Made(), "tokenizer": Letters(), "length": 16, "batch_size": 4, "validation": 0.1}
        module = DataModule(**{**defaults, "cache": str(folder / "cache"), "processes": 1, **options})
        module.prepare_data()
        module.setup()
        batches = [module.on_after_batch_transfer(batch, 0) for batch in islice(module.train_dataloader(), 12)]
        for i, part in enumerate(zip(*batches, strict=True)):
            if part[0] is not None:
                note(f"{key}, batches #{i}", torch.stack(part))
        held = [module.on_after_batch_transfer(batch, 0) for batch in module.val_dataloader()]
        for i, batch in enumerate(held):
            note(f"{key}, validation, batch {i}", [part for part in batch if part is not None])
        note(f"{key}, first", [part for part in module.first(5) if part is not None])
        if held:
            note(f"{key}, first held out", [part for part in module.first(3, held_out=True) if part is not None])
        note(f"{key}, counts", [said for said in module.describe().values() if isinstance(said, int)])
        module.load_state_dict({"consumed": 20})
        note(f"{key}, gone on", torch.cat([batch.ids.long() for batch in islice(module.train_dataloader(), 5)]))
        return module

    rows_of("packed")
    rows_of("packed, another seed", seed=5)
    rows_of("one a row", pack=False, length=30)
    rows_of("held apart", held_apart=0.3)
    rows_of("held apart, for a scorer", held_apart=0.3, part="held_apart")
    rows_of("no validation", validation=0.0)
    mixture = {"a": Made(200, 60), "b": Made(300, 20)}
    rows_of("a mixture", source=Mixture(mixture, {"a": 1.0, "b": 3.0}))
    rows_of("a mixture of all", source=Mixture(mixture, until="all"))
    recipe(folder)
    module = rows_of(
        "pieces of words", source=Files(str(folder / "text.txt")), tokenizer=SentencePiece(320), validation=0.2
    )
    words = ["bada lopi 1", "In the beginning", ""]
    ids = module.tokenizer.encode(words)
    note("pieces of words, ids", ids)
    note("pieces of words, back", module.tokenizer.decode(ids))
    module.tokenizer.save(folder / "saved")
    note("pieces of words, saved", Tokenizer.load(folder / "saved").encode(words))
    draw = random.Random(0)
    for name, count in {"train": 60, "validation": 9, "test": 5}.items():
        (folder / f"{name}.jsonl").write_text(lines(draw, ["ba", "do", "ki", "lu", "mem"], count))
    files = [str(folder / f"{name}.jsonl") for name in ("train", "validation", "test")]
    rows_of(
        "pairs", source=PairFiles(files[0], validation=files[1], test=files[2]), length=30, given=14, validation=0.0
    )
    rows_of("pairs, split", source=PairFiles(files[0]), length=20, given=6, validation=0.2)
    for share in ((0.0, 0.0), (0.2, 0.1), (0.05, 0.5)):
        split = Split(*share)
        for part in ("train", "validation", "held_apart") if share[0] else ("train",):
            note(f"split {share}, {part}", list(split.texts(Made(), part)))
    note("the Bible", [document.text for document in islice(Bible().documents(), 20)])
    note("the order of rows", [list(islice(iter(Endless(23, 4, 7, lambda: 5, rank, 2)), 12)) for rank in (0, 1)])
    note("rows once", [list(Once(23, 3, rank, 2)) for rank in (0, 1)])


# --- 5. measures of texts


@group("measures of texts")
def measures(note: Note, folder: Path) -> None:
    from safetensors.torch import load_file

    from tests.helpers.tiny_scorer import TEXT, save_judge
    from textflow.eval.bleu_rouge import others, scores
    from textflow.metrics import (
        COUNTINGS,
        KEPT,
        CorpusPerplexity,
        Entropy,
        Remembered,
        Scored,
        Scorer,
        bootstrap,
        clean_share,
        corpus_perplexity,
        distinct,
        jackknife,
        mauve,
        mean_entropy,
        mean_repetition,
        ngram_diversity,
        numbers_of,
        over_seeds,
        ratio,
        recovered,
        sample_perplexity,
        sequence_repetition,
        token_nll,
        token_recovery,
        unigram_entropy,
    )  # fmt: skip

    data = load_file(Path(__file__).parent / "assets" / "metrics_tiny.safetensors")
    ids, eos, lengths = data["ids"], int(data["eos"]), data["attention_mask"].sum(1)
    nll = token_nll(data["logits"], ids)
    note("surprise of tokens", nll)
    for name, rule in COUNTINGS.items():
        weight = rule.weights(ids, rule.valid(lengths, 14, int(lengths.max()), 14), eos)
        note(f"{name}, weights", weight)
        note(f"{name}, perplexity", corpus_perplexity(nll, weight))
        note(f"{name}, perplexity of whole batches", corpus_perplexity(nll, weight, 3))
        note(f"{name}, perplexity of samples", sample_perplexity(nll, weight))
        note(f"{name}, counted", [rule.counted(n, 4) for n in range(10)])
        metric = CorpusPerplexity()
        metric.update(nll[:3], weight[:3])
        metric.update(nll[3:], weight[3:])
        note(f"{name}, perplexity of parts", metric.compute())

    draw = torch.Generator().manual_seed(0)
    samples = [
        torch.randint(7, (int(n),), generator=draw).tolist() for n in torch.randint(1, 30, (25,), generator=draw)
    ]
    note("entropies", [unigram_entropy(row) for row in samples])
    note("mean entropy", mean_entropy(samples))
    entropy = Entropy()
    entropy.update(samples[:9])
    entropy.update(samples[9:])
    note("mean entropy of parts", entropy.compute())
    note("repetition", [sequence_repetition(row, n) for row in samples for n in (1, 2, 4)])
    note("mean repetition", [mean_repetition(samples, n) for n in (2, 3, 4)])
    note("distinct", [distinct(samples, n) for n in (1, 2, 3, 4)])
    note("diversity", ngram_diversity(samples))
    note("clean", [clean_share(samples), clean_share(samples, 0.2)])

    for vocab in (10, 50_257, 2**20):
        for n in (1, 2, 4):
            memory = Remembered(samples, vocab, n)
            memory.read(torch.randint(7, (40, 20), generator=torch.Generator().manual_seed(1)), torch.arange(40) % 20)
            note(f"remembered, {vocab} tokens, {n}-grams", memory.hits)
            note(f"remembered, {vocab} tokens, {n}-grams, share", memory.share())
    found, mask = torch.randint(3, (6, 9), generator=draw), torch.rand(6, 9, generator=draw) < 0.8
    real = torch.randint(3, (6, 9), generator=draw)
    note("recovered", recovered(found, real, mask))
    note("recovery", token_recovery(found, real, mask))

    values = torch.randn(30, generator=draw).double()
    note("bootstrap", bootstrap(ratio(values, torch.ones_like(values)), 30, 0.9, 500, 4))
    note("jackknife", jackknife(1.5, values, 0.9))
    note("over seeds", over_seeds([1.0, 2.5, 2.0, 4.0]))
    scored = Scored(samples, 9 * torch.rand(25, generator=draw).double(), (torch.arange(25) % 5).double(), 1)
    for key, options in {"": {}, "of the generator": {"ids": samples[::-1], "over": "generator"}}.items():
        note(f"numbers {key}", numbers_of(scored, **options))
        note(f"numbers {key}, means of samples", numbers_of(scored._replace(mean="sample"), **options))
    features = [torch.randn(60, 4, generator=draw) + shift for shift in (0.0, 0.4)]
    note("mauve", mauve(*features, least=20, seeds=(25, 26)))

    words = TEXT.split()
    texts = [
        " ".join(words[int(i)] for i in torch.randint(len(words), (n,), generator=draw)) for n in (3, 1, 5, 12, 7, 2, 9)
    ]
    texts += ["", "  \n", f"God{KEPT}the earth{KEPT}", "God <eos> the earth <eos> void"]
    save_judge(folder)
    for name in COUNTINGS:
        for size in (3, 8):
            judge = Scorer(folder, counting=name, batch_size=size)
            result = judge.score(texts)
            note(f"judge, {name}, batches of {size}", result)
            note(f"judge, {name}, batches of {size}, perplexity", result.perplexity)
            note(f"judge, {name}, batches of {size}, unscored", result.unscored)
    note("judge, features", judge.features([[2, 3, 4], [5], [6, 7, 8, 9, 2]]))
    note("judge, in half precision", Scorer(folder, dtype="bfloat16").score(texts).nll)

    said, targets = texts[:7], [*texts[1:7], texts[0]]
    common = scores(said, targets)
    note("overlap", {key: value for key, value in common.items() if isinstance(value, (int, float, dict))})
    note("others", others(targets, 3))


# --- 6. optimizers, fits, engines


@group("optimizers, averages, schedules")
def optimizers(note: Note, folder: Path) -> None:
    from copy import deepcopy

    from textflow.reference.muon import PlainMuonAdam
    from textflow.training import MuonAdam, Warmup
    from textflow.training.ema import follow
    from textflow.training.newton_schulz import directly, orthogonalise

    def parts() -> nn.Module:
        torch.manual_seed(0)
        net = nn.Module()
        for i, shape in enumerate([(8, 5), (5, 8), (5, 8), (7,), (2, 3, 4), (6, 6)]):
            net.register_parameter(f"part{i}", nn.Parameter(torch.randn(shape)))
        return net

    rules: dict[str, Callable[[Any], Any]] = {
        "muon and adam": lambda named: MuonAdam(named, lr=1e-2),
        "decay": lambda named: MuonAdam(named, lr=1e-2, weight_decay=0.1),
        "other settings": lambda named: MuonAdam(named, 3e-2, 0.9, (0.8, 0.99), 1e-6, 0.0, 3),
        "some to adam": lambda named: MuonAdam(named, lr=1e-2, adam=["part1", "part5"]),
        "without names": lambda named: MuonAdam([p for _, p in named], lr=1e-2),
        "published form": lambda named: PlainMuonAdam(named, lr=1e-2),
    }
    for key, rule in rules.items():
        net = parts()
        twin, optimizer = deepcopy(net), rule(list(net.named_parameters()))
        schedule = Warmup(optimizer, steps=3)
        stream = torch.Generator().manual_seed(1)
        for _ in range(10):
            for i, p in enumerate(net.parameters()):
                p.grad = torch.randn(p.shape, generator=stream)
                if i == 3 and key == "muon and adam" and torch.rand((), generator=stream) < 0.3:
                    p.grad = None
            optimizer.step()
            schedule.step()
            follow(net, twin, 0.9)
        note(f"{key}, weights", weights(net))
        note(f"{key}, average", weights(twin))
    for shape in ((6, 9), (9, 6), (3, 70, 90), (64, 512), (100, 80)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
        for steps in (1, 5, 6):
            note(f"orthogonalised {shape}, {steps}", orthogonalise(matrix, steps))
        note(f"orthogonalised {shape}, half", orthogonalise(matrix, 5, torch.bfloat16))
        note(f"orthogonalised {shape}, directly", directly(matrix / 20, 3))
    for key, options in {
        "constant": {"steps": 4},
        "cosine": {"steps": 3, "shape": "cosine", "total": 12, "floor": 0.2},
    }.items():
        optimizer = torch.optim.SGD(parts().parameters(), lr=0.5)
        schedule, rates = Warmup(optimizer, **options), []
        for _ in range(15):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        note(f"rates, {key}", rates)


def saved(path: Path) -> str:
    """All tensors of a safetensors file, whatever they are called."""
    from safetensors.torch import load_file

    return weights(tensor.reshape(-1) for tensor in load_file(path).values())


def logged(path: Path) -> dict[str, list[float]]:
    """The numbers that a run logged, by name; not those of time and memory."""
    import csv

    found: dict[str, list[float]] = {}
    for row in csv.DictReader(path.open()):
        if not any(word in row["name"].lower() for word in ("second", "memory", "speed", "time", "gib", "per_s")):
            found.setdefault(row["name"], []).append(float(row["value"]))
    return found


@group("fits: a toy, a recipe, its students")
def fits(note: Note, folder: Path) -> None:
    import textflow
    from tests.cli.test_distill import FLOW, STUDENT
    from tests.helpers.tiny_recipe import pairs, write_recipe as recipe
    from tests.helpers.toy_run import fit
    from textflow.cli.app import main as cli

    def run(*words: str) -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
            code = cli(list(words))
        assert code == 0, said.getvalue()[-2000:]

    model, _ = fit(folder / "toy", 6)
    note("toy, losses", model.seen)
    model, _ = fit(folder / "toy", 10)
    note("toy, losses after going on", model.seen)
    note("toy, weights", weights(model.net))
    note("toy, average", weights(model.twin))
    model, _ = fit(folder / "gathered", 6, accumulate_grad_batches=2, gradient_clip_val=0.1)
    note("toy, two batches a step, clipped", weights(model.net))

    for kind, write in {"texts": recipe, "pairs": pairs}.items():
        (folder / kind).mkdir()
        teacher = write(folder / kind)
        run("fit", str(teacher))
        made = {"teacher": folder / kind / "run"}
        note(f"{kind}, codec", saved(made["teacher"] / "codec" / "model.safetensors"))
        if kind == "texts":
            student = STUDENT.replace("wandb: true", "wandb: false")
            for name, words in {"students": student, "flow": FLOW}.items():
                (folder / f"{name}.yaml").write_text(words)
                run(
                    "distill",
                    str(folder / f"{name}.yaml"),
                    "--teacher",
                    str(made["teacher"]),
                    "--run.folder",
                    str(folder / name),
                )
            made |= {
                "student of 4 steps": folder / "students" / "steps-4",
                "student of 2 steps": folder / "students" / "steps-2",
            }
            made |= {"flow map": folder / "flow" / "all-steps"}
        for key, where in made.items():
            note(f"{kind}, {key}, weights", saved(where / "model.safetensors"))
            note(f"{kind}, {key}, log", logged(where / "metrics.csv"))
            model = textflow.load(where)
            if kind == "texts":
                note(f"{kind}, {key}, texts", model.generate(n=3, steps=4, seed=1))


@group("converted checkpoints")
def converted(note: Note, folder: Path) -> None:
    import textflow
    from tests.convert.test_elf import official
    from textflow.cli.app import main as cli
    from textflow.types import Given

    for name in ("elf_tiny", "elf_train_tiny"):
        (folder / name).mkdir()
        file, data, _ = official(folder / name, name.removesuffix("_tiny"))
        assert cli(["convert", "elf", str(file), str(folder / name / "run")]) == 0
        note(f"{name}, weights", saved(folder / name / "run" / "model.safetensors"))
        made = textflow.load(folder / name / "run")
        note(f"{name}, as loaded", weights(made.net))
        walked(note, f"{name}, samples", made.sample([1, 2], steps=4, length=24))
        if name == "elf_tiny":
            given = Given(prev=data["forward.self_cond"], w=data["forward.self_cond_scale"])
            note(f"{name}, belief", made.net(data["forward.z"], data["forward.t"], given).mean)


@group("engines", slow=True)
def engines(note: Note, folder: Path) -> None:
    from tests.helpers.launcher import run, state
    from tests.helpers.tiny_recipe import recipe

    recipe(folder)
    names = ["ddp", "zero1", "zero2", "zero3", "fsdp"]
    run(folder, [{"run": f"one-{rule}", "engine": "one", "optimizer": rule} for rule in ("muon", "adamw", "sgd")], 1)
    two = [{"run": f"{name}-{rule}", "engine": name, "optimizer": rule} for name in names for rule in ("muon", "adamw")]
    two += [{"run": f"{name}-half", "engine": name, "optimizer": "muon", "precision": "bf16-mixed"} for name in names]
    two += [{"run": f"{name}-tokens", "engine": name, "optimizer": "muon", "mean": "tokens"} for name in names]
    two += [{"run": f"{name}-gathered", "engine": name, "optimizer": "sgd", "accumulate": 2} for name in names]
    run(folder, two, 2, timeout=1500)
    for key in [*(f"one-{rule}" for rule in ("muon", "adamw", "sgd")), *(case["run"] for case in two)]:
        whole = state(folder / key)
        note(f"{key}, weights and average", weights(tensor.reshape(-1) for tensor in whole["state_dict"].values()))
        kept = [part for one in whole["optimizer_states"] for entry in one["state"].values() for part in entry.values()]
        note(f"{key}, optimizer", weights(part.reshape(-1) for part in kept if isinstance(part, Tensor)))
        for rank in range(1 if key.startswith("one") else 2):
            said = json.loads((folder / key / f"rank-{rank}.json").read_text())
            note(f"{key}, rows of rank {rank}", torch.tensor(said["seen"]))
            note(f"{key}, stream of rank {rank}", said["drawn"])
            note(f"{key}, buffers of rank {rank}", said["heard"])


# --- the command


def measured(name: str) -> dict[str, str]:
    """All numbers of a group."""
    note, before = Note(), torch.get_default_dtype()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        GROUPS[name](note, Path(folder))
    assert torch.get_default_dtype() == before
    return note.found


def apart(old: str, new: str) -> str:
    """Where two lines differ."""
    ours, theirs = old.split(), new.split()
    if len(ours) == len(theirs) and len(ours) > 6:
        i = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        return f"word {i} of {len(ours)}: {ours[i]} -> {theirs[i]}; in all {old[:160]} -> {new[:160]}"
    return f"{old[:300]} -> {new[:300]}"


def main() -> int:
    """The exit code: 0 where nothing moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", default=[], help="groups whose names contain this")
    parser.add_argument("--engines", action="store_true", help="the slow group too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    names = [name for name in GROUPS if not args.only or any(word in name for word in args.only)]
    names = [name for name in names if name not in SLOW or args.engines or args.only]
    if not names:
        parser.error(f"no group is called so; there are: {'; '.join(GROUPS)}")
    file = args.folder / "baseline.json"
    whole: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.is_file() else {}
    moved, counts, start = 0, 0, time.perf_counter()
    for name in names:
        began = time.perf_counter()
        try:
            found = measured(name)
        except Exception:
            moved += 1
            print(f"BROKEN  {name}\n{traceback.format_exc()}", flush=True)
            continue
        spent = f"{time.perf_counter() - began:.1f} s"
        if args.what == "record":
            whole[name] = found
            print(f"recorded  {name}: {len(found)} numbers, {spent}", flush=True)
            continue
        old = whole.get(name, {})
        wrong = [
            f"  MOVED: {key}: {apart(old[key], found[key])}" for key in old.keys() & found if old[key] != found[key]
        ]
        wrong += [f"  MISSING: {key}" for key in old.keys() - found] + [f"  NEW: {key}" for key in found.keys() - old]
        moved, counts = moved + len(wrong), counts + len(found)
        print(
            "\n".join(
                [
                    f"{'MOVED' if wrong else 'same'}  {name}: {len(wrong)} of {len(found)} differ, {spent}",
                    *sorted(wrong),
                ]
            ),
            flush=True,
        )
    if args.what == "record":
        args.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    elif not args.only and (
        lost := [name for name in whole if name not in names and (name not in SLOW or args.engines)]
    ):
        moved += len(lost)
        print(f"MISSING groups: {'; '.join(lost)}")
    print(
        f"{len(names)} groups, {sum(map(len, whole.values())) if args.what == 'record' else counts} numbers, {moved} moved or broken, {time.perf_counter() - start:.0f} s"
    )
    return int(moved > 0)


if __name__ == "__main__":
    sys.exit(main())
