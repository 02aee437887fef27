"""Diagnostic: the likelihood of held-out text under a generator on embeddings, by the bound or by its flow."""

import math
from collections.abc import Mapping
from typing import Literal

import torch

from textflow.diagnostics.base import Diagnostic
from textflow.diagnostics.likelihood import Likelihood, Scored, flow_nll, variational_nll
from textflow.diagnostics.sample_callbacks import require_generator
from textflow.models.autoencoder import Autoencoder
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.paths.variance_preserving import VariancePreserving
from textflow.schedules.gumbel import Gumbel
from textflow.types import Batch

FLOW_ROWS = 8  # of a table; with 32 steps they cost as many network evaluations as the bound of 64 rows


class TextLikelihood(Diagnostic):
    """likelihood/nll, -log p of held-out text in nats per token, its parts, and likelihood/perplexity; by the flow
    flow_likelihood/nll and so on.

    Args:
        every_n_steps: optimizer steps between two measurements; one more follows at the end of the fit.
        num_rows: number of held-out rows.
        seed: random seed of noise and probes.
        method: `bound`, the variational bound, or `flow`, the probability-flow ODE by Heun's method with Hutchinson's
            estimator of the divergence, one probe an evaluation.
        num_draws: noise levels a row of the bound; each costs two network evaluations.
        num_steps: steps of the flow; each costs four network evaluations and two backward passes.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        num_rows: int = 32,
        seed: int = 0,
        num_draws: int = 16,
        method: Literal["bound", "flow"] = "bound",
        num_steps: int = 32,
    ) -> None:
        super().__init__(every_n_steps, num_rows, seed)
        self.num_draws, self.method, self.num_steps = num_draws, method, num_steps

    def measure(self, model: Generator | Autoencoder, batch: Batch, noise: Noise) -> Mapping[str, float]:
        scored = scored_text(require_generator(self, model), batch)
        parts = (self.flow if self.method == "flow" else self.bound)(scored, noise)
        means = (float(part.sum()) / max(int(batch.mask.sum()), 1) for part in parts)
        prefix = "flow_likelihood" if self.method == "flow" else "likelihood"
        values = {f"{prefix}/{name}": value for name, value in zip(Likelihood._fields, means, strict=True)}
        return values | {f"{prefix}/perplexity": math.exp(min(values[f"{prefix}/nll"], 700.0))}

    def bound(self, scored: Scored, noise: Noise) -> Likelihood:
        """The variational bound of each row."""
        shape, device = (scored.batch.ids.shape[1], scored.codec.dim), scored.batch.ids.device
        eps = (noise.normal(*shape).to(device) for _ in range(self.num_draws + 1))
        # one level in each of as many equal parts of the law, so that few draws suffice
        u = (torch.arange(self.num_draws)[:, None] + noise.uniform(self.num_draws).T) / self.num_draws
        first, u = next(eps), u.float().to(device)
        return variational_nll(scored, first, u, torch.stack(list(eps)))

    def flow(self, scored: Scored, noise: Noise) -> Likelihood:
        """-log p of each row by the probability-flow ODE."""
        shape, device = (scored.batch.ids.shape[1], scored.codec.dim), scored.batch.ids.device
        return flow_nll(
            scored, noise.normal(*shape).to(device), lambda: noise.normal(*shape).to(device), self.num_steps
        )


def likelihood_rows(model: Generator, batch: Batch, seed: int) -> list[dict[str, int | float | str]]:
    """Rows of a table: the values of TextLikelihood by each method for a batch, the flow's for its first FLOW_ROWS
    rows, with the number of tokens n, rows, seed, and draws or steps.

    Args:
        model: generator with a likelihood.
        batch: text.
        seed: random seed of noise and probes.
    """
    rows: list[dict[str, int | float | str]] = []
    for diagnostic, few in ((TextLikelihood(), batch), (TextLikelihood(method="flow"), batch.map(first_rows))):
        values = diagnostic.measure(model, few, Noise(sample_seeds(seed, 0, len(few.ids))))
        values = {name.split("/")[1]: value for name, value in values.items()}
        size = {"n": int(few.mask.sum()), "rows": len(few.ids), "seed": seed}
        cost = {"draws": diagnostic.num_draws} if diagnostic.method == "bound" else {"steps": diagnostic.num_steps}
        rows.append({"method": diagnostic.method, **values, **size, **cost})
    return rows


def first_rows(part: torch.Tensor) -> torch.Tensor:
    """The rows of a batch whose likelihood by the flow a table has."""
    return part[:FLOW_ROWS]


def scored_text(model: Generator, batch: Batch) -> Scored:
    """The averaged net and codec of a generator with the schedule Gumbel, on the path VariancePreserving."""
    law = gumbel_law(model)
    if law is None:
        raise ValueError(
            f"a likelihood needs the path VariancePreserving and the schedule Gumbel; this model has "
            f"{type(model.path).__name__} and {type(model.objective.time_schedule).__name__}"
        )
    return Scored(model.ema_net, model.codec, law, batch)


def gumbel_law(model: Generator) -> Gumbel | None:
    """The schedule Gumbel of a model on the path VariancePreserving; other models have no likelihood."""
    law = model.objective.time_schedule
    return law if isinstance(law, Gumbel) and isinstance(model.path, VariancePreserving) else None
