"""Ways from noise to text that the ranking compares, and the grids that are frozen for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from textflow.escapes import Commit, Escape, Fair, Sharpen, Soft, Tube
from textflow.noise import Noise
from textflow.oracle import World, masked
from textflow.readouts import FromBelief, FromCodec, Readout
from textflow.samplers import Euler, HeadStart, Multistep, Reinject, Relook, Renoise, Sampler
from textflow.schedules import Clock
from textflow.types import Ids

Write = Callable[[World, list[float], list[int]], Ids]
CALLS = (2, 3, 4, 6, 8, 16)
SEARCHED = 9000  # seed of the worlds that the grids were searched on
TUNED: dict[str, dict[int, tuple[float, float]]] = {  # LogitNormal(mean, std) by calls, searched on 3 worlds
    "soft": {2: (0.3, 0.2), 3: (0.0, 0.6), 4: (-0.1, 0.5), 6: (-0.1, 0.5), 8: (-0.1, 0.5), 16: (-0.4, 0.5)},
    "reinject": {2: (0.3, 0.2), 3: (0.3, 0.6), 4: (0.3, 0.5), 6: (0.2, 0.6), 8: (0.1, 0.5), 16: (0.1, 0.4)},
    "sampled": {2: (0.2, 0.2), 3: (0.0, 0.3), 4: (0.0, 0.3), 6: (-0.1, 0.3), 8: (-0.2, 0.4), 16: (-0.2, 0.4)},
    "commit": {2: (0.2, 0.2), 3: (-0.1, 0.3), 4: (-0.2, 0.4), 6: (-0.3, 0.4), 8: (-0.2, 0.4), 16: (-0.2, 0.3)},
}
FLIPS = {  # flip rates at the first and the last interior time, searched on the same worlds; of commit on 12
    "soft": (0.4, 0.03),
    "reinject": (0.4, 0.03),
    "sampled": (0.4, 0.03),
    "commit": (0.3, 0.05),
    "relook": (0.2, 0.15),
}

SPOILT: dict[str, dict[str, Any]] = {  # imperfect denoisers, by name
    "underfit .3": {"lam": 0.3},
    "sharpened, power 2": {"beta": 2.0},
    "error field of 1 nat": {"error": 1.0},
}
ROBUST = (
    *("ODE, argmax gamma", "Reinject released .5", "Reinject released 1.5", "Reinject exact 1.5"),
    *("mode commit", "mode commit, fair", "tube commit"),
    *("relook: mode", "relook: mode, fair", "relook: sharpened, fair"),
)

MODE = ("mode commit", "mode commit, fair", "relook: mode, fair")  # forms of commitment to the mode
JUDGED = (*MODE, "relook: sharpened, fair")


def fresh(seed: int) -> int:
    """Seed of the first world of a run's own 100: never those that anything was searched on."""
    return 10_000 + 100 * seed


class Times(Clock):
    """A grid that is given.

    Args:
        times: increasing, from 0 to 1.
    """

    def __init__(self, times: Sequence[float]) -> None:
        super().__init__()
        self.times = list(times)

    def icdf(self, q: Tensor) -> Tensor:
        raise NotImplementedError("given times have no law")

    def grid(self, steps: int, noise: Noise | None = None) -> list[float]:
        assert steps == len(self.times) - 1, f"{steps} steps of {len(self.times)} times"
        return self.times


@dataclass(frozen=True)
class Method:
    """A way from noise to text.

    Args:
        name: as printed.
        write: world, times, seeds -> texts.
        kind: whose tuned grid it takes; empty for one without times.
        grids: that it is run on.
        calls: that it can be given.
        free: steps that cost no call.
    """

    name: str
    write: Write
    kind: str
    grids: tuple[str, ...] = ("tuned", "flip")
    calls: tuple[int, ...] = CALLS
    free: int = 0


def walked(sampler: Sampler, escape: Escape = Soft(), readout: Readout = FromBelief()) -> Write:
    """Texts by the one loop that trained models sample by."""

    def write(world: World, times: list[float], seeds: list[int]) -> Ids:
        return world.generator(readout, escape, sampler, Times(times)).sample(seeds, len(times) - 1).ids

    return write


@torch.no_grad()
def staggered(world: World, times: list[float], seeds: list[int]) -> Ids:
    """Tube commit where even positions run ahead of odd ones, logit(t) +- d; d = .9 at 2 calls, else .3 [ours].

    Inside the tube the mode is noised afresh, elsewhere the mean carries z on.
    """
    noise, inner = Noise(seeds), torch.tensor(times[1:-1], dtype=torch.float64)
    ahead = (0.9 if len(inner) == 1 else 0.3) * (1 - 2 * (torch.arange(world.length) % 2)).double()
    own = torch.sigmoid(torch.logit(inner)[:, None] + ahead)  # [K - 1, L]
    t, z = torch.zeros(world.length, dtype=torch.float64), noise.normal(world.length, world.codec.dim).double()
    z = z * world.path.scale
    for u in own:
        belief = world.denoiser.posterior(z, t.expand(len(seeds), -1))
        assert belief.logits is not None
        fresh, a, s = noise.normal_like(z), u[:, None], world.path.sigma(u)[:, None]
        inside = (belief.logits.exp().amax(-1, keepdim=True) < 0.8) & (t > 0)[:, None]
        on = torch.lerp(z, belief.mean, ((u - t) / (1 - t))[:, None])
        z, t = torch.where(inside, a * world.codec.codes[belief.logits.argmax(-1)] + s * fresh, on), u
    last = world.denoiser.posterior(z, t.expand(len(seeds), -1)).logits
    assert last is not None
    return last.argmax(-1)


def jointly(world: World, times: list[float], seeds: list[int]) -> Ids:
    """The joint readout of pure noise, p(y | z_0) = p(y): exact at any number of calls, the zero line."""
    noise = Noise(seeds)
    z = noise.normal(world.length, world.codec.dim)
    return world.exact.joint(z, torch.zeros(z.shape[:2], dtype=torch.float64), noise)


def unmasked(order: Literal["random", "dilated"], world: World, times: list[float], seeds: list[int]) -> Ids:
    """Masked in equal batches, a batch a call; each token is drawn."""
    return masked(world, len(times) - 1, Noise(seeds), order).ids


ALL = ("tuned", "flip", "elf")
METHODS = [
    Method("joint readout (zero line)", jointly, "", ("none",)),
    Method("ODE, read(x_hat)", walked(Euler(), readout=FromCodec()), "soft", ALL),
    Method("ODE, argmax gamma", walked(Euler()), "soft", ALL),
    Method("Multistep, argmax gamma", walked(Multistep()), "soft"),
    Method("Reinject released .5", walked(Reinject(0.5)), "reinject"),
    Method("Reinject released 1.5", walked(Reinject(1.5)), "reinject", ALL),
    Method("Reinject exact .5", walked(Reinject(0.5, "exact")), "reinject"),
    Method("Reinject exact 1.5", walked(Reinject(1.5, "exact")), "reinject"),
    Method("masked, random", partial(unmasked, "random"), "", ("none",)),
    Method("masked, dilated", partial(unmasked, "dilated"), "", ("none",), (2, 4, 8, 16)),
    Method("sampled commit", walked(Renoise(), Commit("sample")), "sampled"),
    Method("mode commit", walked(Renoise(), Commit()), "commit", ALL),
    Method("mode commit, fair", walked(Renoise(), Fair(Commit())), "commit"),
    Method("tube commit", walked(Renoise(1.0, 0.0), Commit(gate=Tube(0.8))), "commit"),
    Method("tube commit, staggered", staggered, "commit"),
    Method("relook: mode", walked(Relook(0.5), Commit()), "relook", ("flip",)),
    Method("relook: sharpened", walked(Relook(0.0), Sharpen()), "relook", ("flip",)),
    Method("relook: mode, fair", walked(Relook(0.5), Fair(Commit())), "relook", ("flip",)),
    Method("relook: sharpened, fair", walked(Relook(0.0), Fair(Sharpen())), "relook", ("flip",)),
    Method("head start + ODE", walked(HeadStart(Euler())), "soft", ("flip",), free=1),
    Method("head start + mode commit", walked(HeadStart(Renoise()), Commit()), "commit", ("flip",), free=1),
    Method("head start + relook: mode", walked(HeadStart(Relook(0.5)), Commit()), "relook", ("flip",), free=1),
]
NAMED = {method.name: method for method in METHODS}
REINJECTING = tuple(name for name in NAMED if name.startswith("Reinject"))
RIVALS = ("ODE, read(x_hat)", "ODE, argmax gamma", *REINJECTING, *JUDGED)  # what a verdict needs
