"""Groups of positions that a network can choose at once, by the law of the texts that they make [ours]."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textflow.models.generator import Generator
from textflow.samplers.grouped import given_tokens, require_latent_per_token
from textflow.types import Ids

REACH = 3


class GroupCost:
    """Mean -log p of texts under the order Grouped with one step per group, nats per text: the sum over groups of their
    tokens' cross-entropies given the groups before, averaged over the noise of the others. The step starts at
    the noisy end of the training schedule.

    It is at least the entropy of the texts. The rest is the network's error and the dependence of a group's tokens on
    each other, as they are drawn independently.

    Args:
        model: generator whose network takes a time for each position.
        ids: texts [n, L].
        seed: random seed of the noise.
    """

    def __init__(self, model: Generator, ids: Ids, seed: int = 0) -> None:
        self.model, self.ids = model.eval(), ids.to(model.device)
        require_latent_per_token(model.codec, model.codec.num_latents(ids.shape[1]))
        self.start, _ = model.initial_noise([seed * len(ids) + i for i in range(len(ids))], ids.shape[1])
        times = model.objective.time_schedule.grid(1, t_min=model.path.t_min, t_max=model.path.t_max)
        self.t_start, self.nll_by_known = times[0], dict[tuple[bool, ...], Float[Tensor, " L"]]()

    def __call__(self, groups: Sequence[int]) -> float:
        """Mean -log p, nats per text, of a group of each position."""
        total = 0.0
        for group in sorted(set(groups)):
            nll = self.position_nll(tuple(other < group for other in groups))
            total += sum(float(nll[i]) for i, other in enumerate(groups) if other == group)
        return total

    @torch.no_grad()
    def position_nll(self, known: tuple[bool, ...]) -> Float[Tensor, " L"]:
        """Mean -log p of the token at each position, given the known ones, nats; computed once."""
        if known not in self.nll_by_known:
            mask = torch.tensor(known, device=self.ids.device).expand(self.ids.shape)
            x = torch.where(mask[..., None], self.model.codec.encode(self.ids, mask), 0.0)
            denoise = given_tokens(self.model.denoiser(), x, mask, torch.zeros_like(mask), self.start, self.t_start)
            belief = denoise(self.start, self.t_start, x)
            logits = self.model.readout.logits(denoise.view(self.start, self.t_start, belief))
            nll = F.cross_entropy(logits.transpose(1, 2).float(), self.ids, reduction="none")
            self.nll_by_known[known] = nll.double().mean(0).cpu()
        return self.nll_by_known[known]


def fit_groups(
    cost: GroupCost,
    num_groups: int,
    seed: int = 0,
    restarts: int = 1,
    tick: Callable[[float], None] = lambda cost: None,
) -> list[int]:
    """Groups of low cost, the best of several searches.

    Args:
        cost: mean -log p of groups.
        num_groups: number of groups, at least 1.
        seed: random seed of the first search; the others have those that follow.
        restarts: number of searches.
        tick: called with the cost after each round of a search.
    """
    if not 1 <= num_groups <= cost.ids.shape[1]:
        raise ValueError(
            f"{num_groups} groups of {cost.ids.shape[1]} positions: needs at least 1 group, and a position for each"
        )
    return min((search_groups(cost, num_groups, seed + i, tick) for i in range(restarts)), key=cost)


def search_groups(cost: GroupCost, num_groups: int, seed: int, tick: Callable[[float], None]) -> list[int]:
    """From random groups, each position in turn moves to its best group at most REACH away, until none moves. A move
    costs a pass of the network for each group in between. The arguments are those of `fit_groups`."""
    length, random = cost.ids.shape[1], torch.Generator().manual_seed(seed)
    groups = (torch.randperm(length, generator=random) % num_groups).tolist()
    best, moved = cost(groups), True
    while moved:
        moved = False
        for i in torch.randperm(length, generator=random).tolist():
            for group in range(max(groups[i] - REACH, 0), min(groups[i] + REACH + 1, num_groups)):
                other = [*groups[:i], group, *groups[i + 1 :]]
                if len(set(other)) == num_groups and (nats := cost(other)) < best - 1e-3:
                    best, groups, moved = nats, other, True
        tick(best)
    return groups
