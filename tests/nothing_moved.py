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
        elif is_dataclass(value) and not isinstance(value, type):
            for i, field in enumerate(fields(value)):
                self(f"{key} #{i}", getattr(value, field.name))
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
    for p in teacher.twin.parameters():  # a teacher that is not the student's own beginning
        p.data.add_(0.0)
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
