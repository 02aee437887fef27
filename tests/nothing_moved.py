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
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "WANDB_MODE": "offline"}

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
        return line if len(line) < 600 else f"{len(value)} parts {hashlib.sha256(line.encode()).hexdigest()[:24]} {line[:200]}"
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
    from tests.untrained import untrained

    made = untrained(VOCAB, DIM, LENGTH, **options)
    made.net.load_state_dict(made.twin.state_dict())
    return made


def elf(**options: Any) -> Callable[[int, int], nn.Module]:
    """Makes a small ELF from a width and a number of tokens."""
    from textflow.nets import ELF

    return lambda dim, vocab: ELF(dim, vocab, **({"width": 16, "depth": 2, "heads": 2, "bottleneck": 8} | options))


def dit(seed: int, spans: bool, **options: Any) -> nn.Module:
    """A small DiT over one-hot tokens."""
    from textflow.clocks import LogitNormal
    from textflow.nets.dit import DiT

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
    from textflow.clocks import DecodeError, LogitNormal, Uniform
    from textflow.codecs import Learned, Table
    from textflow.objectives import ELFObjective
    from textflow.objectives.plain import plain_loss
    from textflow.paths import Linear

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
    from textflow.clocks import LogitNormal, Uniform
    from textflow.nets import Frozen
    from textflow.nets.dit import Residual
    from textflow.objectives import ELFObjective, FlowMap, MeanFlowObjective
    from textflow.paths import Linear
    from textflow.targets import Copy, Eulerian, Lagrangian, SemiGroup

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
    from textflow.clocks import LogitNormal
    from textflow.codecs import Learned
    from textflow.escapes import All, Confident, Tube
    from textflow.objectives import Distill, ELFObjective
    from textflow.objectives.plain_distill import plain_distill
    from textflow.objectives.target_error import target_error
    from textflow.targets import Consistency, Progressive, SalimansHo
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
    note("plain form", plain_distill(made.objective, made.net, made.objective.teacher, made.path, x, batch, draws, times))
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
    from textflow.objectives import DistillFlow, ELFObjective
    from textflow.targets import Copy, Eulerian, Lagrangian, MeanFlow, SemiGroup

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
    from textflow.autoencoder import Autoencoder
    from textflow.causal import CausalLM
    from textflow.clocks import Uniform
    from textflow.codecs import Learned, Table
    from textflow.masked import Masked
    from textflow.nets.mdlm import MDLM
    from textflow.objectives import SUBS
    from textflow.paths import Linear
    from textflow.paths.masking import Masking

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
    from textflow.clocks import DecodeError, Drawn, Flip, LogitNormal, Uniform
    from textflow.escapes import Commit

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
                walked(note, f"early stop {lead} {share} {patience}; {key}; {escape}", made.sample(SEEDS, 9, step, escape=choice))
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
    from tests.words import Words
    from textflow.codecs import Learned
    from textflow.escapes import Commit, Fair, Sharpen, Soft, Tube
    from textflow.holes import answers, continued, infilled, tensors, told
    from textflow.objectives import ELFObjective
    from textflow.samplers import Prompt
    from textflow.samplers.prompted import answer, ended

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
        walked(note, f"{kind}; holes, the way", plain.sample(SEEDS, 4, prompt=plain.prompt(ids, holes), escape=Commit()))
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
    from tests.words import Words
    from textflow.causal import CausalLM
    from textflow.clocks import LogitNormal, Uniform
    from textflow.masked import Masked
    from textflow.nets.mdlm import MDLM
    from textflow.noise import Noise
    from textflow.objectives import SUBS
    from textflow.samplers import NextToken, Unmask
    from textflow.samplers.draw import invert, race

    words = Words(["<eos>", *(f"w{i}" for i in range(1, VOCAB))])
    ids = torch.randint(1, VOCAB, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    holes, starts = torch.arange(LENGTH)[None].expand(3, -1) % 3 == 0, torch.arange(LENGTH)[None] < torch.tensor([[3], [0], [5]])
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
    from tests.diagnostics.codes import First, atoms, met, pair, streams
    from textflow.diagnostics.ablation import Ablated, ablation
    from textflow.diagnostics.blunt import blunt
    from textflow.diagnostics.cci import cci, cci_info, evidence, fed_of, forced_nll
    from textflow.diagnostics.dabi import Response, adversarial, dabi, respond, smooth, summary, sweep
    from textflow.diagnostics.density import boundary_density, density_at
    from textflow.diagnostics.facets import facets, joint_facets
    from textflow.diagnostics.margins import early_exit, fit_threshold, margins
    from textflow.diagnostics.meter import Meter
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
    for name, world in {"two codes": pair(2.0, 4, 3.0), "codes": atoms(16, 8, 0.0), "clouds": atoms(12, 4, 0.4)}.items():
        seen = met(world, 0.5, rows, length)
        mask = torch.arange(length)[None] < torch.arange(length - rows, length)[:, None]
        seen = seen._replace(mask=mask)
        real = (world.read, seen.x, seen.guess, mask)
        note(f"{name}, met", (seen.x, seen.z, tuple(seen.belief[:2]), seen.residual))
        note(f"{name}, met twice", terminal(world.denoise, world.path, seen.x, mask, 0.4, Noise(range(rows)), 2).belief.mean)
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
        for way, sampler in {"euler": Euler(), "heun": Heun(), "multistep": Multistep(), "renoise": Renoise(0.5)}.items():
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
                given, weight = fed_of(trace), [evidence(world.read, seen.x, mask, world.path, t, streams(rows)) for t in trace.times]
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
    maps = turn @ torch.diag(torch.linspace(0.1, 3, 12).double()) @ turn[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]

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
    from textflow.autoencoder import Autoencoder
    from textflow.codecs import Learned, Table
    from textflow.escapes import Commit
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
    from textflow.clocks import Uniform
    from textflow.escapes import Commit
    from textflow.noise import Noise
    from textflow.oracle import WORLDS, Imperfect, Yardstick, autoregressive, masked
    from textflow.oracle.coarea import Curved, coarea
    from textflow.oracle.separated import (
        Cells, balanced, blocks, isoperimetric, missed, missed_by_two, normalised, perimeter, products, simplex, slabs,
        slope,
    )  # fmt: skip
    from textflow.readouts import FromBelief
    from textflow.samplers import Euler, Multistep, Reinject, Renoise
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


#HERE


# --- the command


def measured(name: str) -> dict[str, str]:
    """All numbers of a group."""
    note, before = Note(), torch.get_default_dtype()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
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
        wrong = [f"  MOVED: {key}: {apart(old[key], found[key])}" for key in old.keys() & found if old[key] != found[key]]
        wrong += [f"  MISSING: {key}" for key in old.keys() - found] + [f"  NEW: {key}" for key in found.keys() - old]
        moved, counts = moved + len(wrong), counts + len(found)
        print("\n".join([f"{'MOVED' if wrong else 'same'}  {name}: {len(wrong)} of {len(found)} differ, {spent}", *sorted(wrong)]), flush=True)
    if args.what == "record":
        args.folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    elif not args.only and (lost := [name for name in whole if name not in names and (name not in SLOW or args.engines)]):
        moved += len(lost)
        print(f"MISSING groups: {'; '.join(lost)}")
    print(f"{len(names)} groups, {sum(map(len, whole.values())) if args.what == 'record' else counts} numbers, {moved} moved or broken, {time.perf_counter() - start:.0f} s")
    return int(moved > 0)


if __name__ == "__main__":
    sys.exit(main())
