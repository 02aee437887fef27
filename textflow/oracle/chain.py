"""Chain: a prior over texts whose every question has an exact answer."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textflow.noise import Noise
from textflow.types import Ids, Logits

TINY = 1e-300  # what a float64 divisor is kept above
FAINTEST = -600.0  # log-likelihoods below the best token's are cut here, so that exp leaves all of them above 0


class Chain(nn.Module):
    """p(y) of a hidden Markov chain whose states each say one token; all of it float64.

    Args:
        initial: law of the first state, [N].
        transition: [N, N]; row i is the law of the state after i.
        emission: token of each state, [N]; default: states are tokens.
        topic: part of each state that stays within a text, [N]; default: one topic.
        legal: transitions that are meant rather than smoothed in, [N, N]; default: all that can happen.
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor
    topic: Tensor
    legal: Tensor

    def __init__(
        self,
        initial: Float[Tensor, " N"],
        transition: Float[Tensor, "N N"],
        emission: Int[Tensor, " N"] | None = None,
        topic: Int[Tensor, " N"] | None = None,
        legal: Bool[Tensor, "N N"] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("initial", initial.double())
        self.register_buffer("transition", transition.double())
        self.register_buffer("emission", torch.arange(len(initial)) if emission is None else emission)
        self.register_buffer("topic", torch.zeros_like(self.emission) if topic is None else topic)
        self.register_buffer("legal", transition > 0 if legal is None else legal)
        self.vocab = int(self.emission.max()) + 1

    def nll(self, ids: Ids) -> Float[Tensor, "B L"]:
        """-log p(y_l | y_<l) in nats, infinite where a text cannot be."""
        return -self._filter(self._says(ids))[1]

    def posterior(self, loglik: Logits) -> Float[Tensor, "B L V"]:
        """gamma = p(y_l = v | evidence) by scaled forward-backward.

        Args:
            loglik: log p(evidence at l | y_l = v), up to a constant a position.
        """
        lik = self._states(loglik)
        ahead, back = self._filter(lik)[0], torch.ones_like(lik[:, 0])
        states: list[Tensor] = []
        for place in reversed(range(lik.shape[1])):
            both = ahead[:, place] * back
            states.append(both / both.sum(-1, keepdim=True).clamp_min(TINY))
            back = (lik[:, place] * back) @ self.transition.T
            back = back / back.amax(-1, keepdim=True).clamp_min(TINY)
        says = torch.eye(self.vocab, dtype=torch.float64, device=lik.device)[self.emission]  # [N, V]
        return torch.stack(states[::-1], 1) @ says

    def draw(self, loglik: Logits, noise: Noise) -> Ids:
        """Texts from p(y | evidence), jointly: filter forward, sample backward.

        Args:
            loglik: as of `posterior`; zeros for the prior.
            noise: one stream a row.
        """
        ahead = self._filter(self._states(loglik))[0]
        u = noise.uniform(loglik.shape[1]).to(ahead.device)
        states = [pick(ahead[:, -1], u[:, -1])]
        for place in reversed(range(loglik.shape[1] - 1)):
            states.append(pick(ahead[:, place] * self.transition.T[states[-1]], u[:, place]))
        return self.emission[torch.stack(states[::-1], 1)]

    def topics(self, ids: Ids) -> Int[Tensor, " B"]:
        """The most likely topic of each text (exact where topics stay within a text)."""
        last = self._filter(self._says(ids))[0][:, -1]
        mass = last.new_zeros(len(ids), int(self.topic.max()) + 1)
        return mass.index_add(1, self.topic, last).argmax(-1)

    def _says(self, ids: Ids) -> Float[Tensor, "B L N"]:
        return (self.emission == ids[..., None]).double()

    def _states(self, loglik: Logits) -> Float[Tensor, "B L N"]:
        loglik = loglik.double()
        return (loglik - loglik.amax(-1, keepdim=True)).clamp_min(FAINTEST).exp()[..., self.emission]

    def _filter(self, lik: Float[Tensor, "B L N"]) -> tuple[Float[Tensor, "B L N"], Float[Tensor, "B L"]]:
        """p(state_l | evidence up to l) and log p(evidence at l | evidence before)."""
        states, norms, here = [], [], self.initial.expand(len(lik), -1)
        for place in range(lik.shape[1]):
            joint = here * lik[:, place]
            norms.append(joint.sum(-1))
            states.append(joint / norms[-1].clamp_min(TINY)[:, None])
            here = states[-1] @ self.transition
        return torch.stack(states, 1), torch.stack(norms, 1).log()


def pick(law: Float[Tensor, "... N"], u: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Draw from laws, normalised or not, by inversion.

    Args:
        law: at least one entry above 0.
        u: uniform on (0, 1).
    """
    total = law.cumsum(-1)
    return (total < u[..., None] * total[..., -1:]).sum(-1)
