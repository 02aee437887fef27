"""TextGenerator: a trainable model that generates texts from seeds, batch by batch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from textflow.discrete import DiscreteSampler
from textflow.escapes import Escape, NoEscape
from textflow.models.autoregressive import Autoregressive
from textflow.models.base import Trainable
from textflow.models.infilling import format_pairs
from textflow.noise import sample_seeds
from textflow.readouts import FromPosterior, Readout
from textflow.samplers import Euler, Grouped, Order, Prompt, Sampler
from textflow.schedules import TimeSchedule
from textflow.types import Ids, Mask

AnySampler: TypeAlias = Sampler | DiscreteSampler | Autoregressive


class TextGenerator(Trainable, ABC):
    """A model that fills rows with token ids, one random stream per row."""

    @abstractmethod
    def sample_ids(self, seeds: list[int], num_steps: int, **options: Any) -> Ids:
        """Token ids [B, L], one sample per seed.

        Args:
            seeds: random seeds, one a sample.
            num_steps: number of sampling steps.
            options: further arguments of the model's `sample`; None is the recipe's.
        """

    @abstractmethod
    def complete(self, ids: Ids, prompt_mask: Mask, seeds: list[int], num_steps: int = 32) -> Ids:
        """Token ids [B, L] with all but the prompt filled in, one sample per row.

        Args:
            ids: token ids, rows of a sample's length [B, L].
            prompt_mask: True on the prompt [B, L].
            seeds: random seeds, one a row.
            num_steps: number of sampling steps; unused by an autoregressive model.
        """

    def generate(
        self,
        num_samples: int = 1,
        num_steps: int = 32,
        seed: int = 0,
        sampler: AnySampler | None = None,
        self_cond_guidance: float | None = None,
        length: int | None = None,
        batch_size: int = 64,
        first_index: int = 0,
        **options: Escape | TimeSchedule | Prompt | None,
    ) -> list[str]:
        """Texts. Sample i depends on the weights, the sampler, seed and i alone.

        Args:
            num_samples: number of texts.
            num_steps: number of sampling steps; unused by an autoregressive model.
            seed: random seed of the run, >= 0.
            sampler: sampling rule; default: the recipe's.
            self_cond_guidance: self-conditioning guidance scale; default: the recipe's. None for models without one.
            length: most tokens of a text; default: that of training.
            batch_size: number of texts in a batch.
            first_index: index of the first sample.
            options: further arguments of the model's `sample`.
        """
        tokenizer = self.tokenizer  # a model without one fails before it samples
        given = {"sampler": sampler, "self_cond_guidance": self_cond_guidance, "length": length}
        ids: list[list[int]] = []
        for start in range(0, num_samples, batch_size):
            seeds = sample_seeds(seed, first_index + start, min(batch_size, num_samples - start))
            ids += self.sample_ids(seeds, num_steps, **options, **given).tolist()
        return tokenizer.decode(ids)

    @property
    def default_steps(self) -> int:
        """Number of sampling steps where none is asked for: those that a student is trained for, else 32."""
        return getattr(getattr(self, "objective", None), "steps", 32)

    def sample_texts(self, n: int) -> list[str]:
        """Texts for a preview during training; for pairs, held-out sources and their answers."""
        if self.text_format.max_source_length is None:
            return self.generate(n, self.default_steps)
        batch = self.data_batch(n, held_out=self.data is not None and self.data.has_validation)
        assert batch.prompt_mask is not None, "batches of pairs have a prompt mask"
        seeds = sample_seeds(0, 0, len(batch.ids))
        ids = self.complete(batch.ids, batch.prompt_mask, seeds, self.default_steps)
        return format_pairs(self, ids, batch.prompt_mask)


def refuse_guidance(model: str, *scales: float | None) -> None:
    """Raise an error if a model without guidance is given a scale."""
    scale = next((scale for scale in scales if scale is not None), None)
    if scale is not None:
        raise ValueError(f"the guidance scale is {scale}, but {model} has no guidance scale; leave it out")


@contextmanager
def sampled_by(
    model: TextGenerator, sampler: Sampler, escape: Escape, **others: Order | Readout | None
) -> Iterator[None]:
    """Give a generator another sampler and escape, and other parts by attribute; its own are restored afterwards."""
    parts = {"sampler": sampler, "escape": escape, **others}
    own = {name: getattr(model, name) for name in parts}
    try:
        for name, part in parts.items():
            setattr(model, name, part)
        yield
    finally:
        for name, part in own.items():
            setattr(model, name, part)


@contextmanager
def drawn_in_groups(model: TextGenerator, groups: Sequence[int]) -> Iterator[None]:
    """Let a generator draw its tokens in groups of positions, each of as many steps as are asked for.

    The times are those of training: a group of one step starts at pure noise, which a sampling schedule may leave out.
    """
    readout = FromPosterior(temperature=1.0)
    with sampled_by(model, Euler(), NoEscape(), order=Grouped(groups), own_readout=readout, own_sampling_schedule=None):
        yield
