"""Measures of a language model that textflow did not train, as rows for printing and saving."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from textflow.external.dependence import TotalCorrelation, masked_tokens, next_tokens, parallel_cci, total_correlation
from textflow.external.error_response import ErrorResponse
from textflow.external.image_decoder import ImageDecoder, Images, image_response
from textflow.external.language_model import LanguageModel, TokenIds
from textflow.external.sharpness import readout_sharpness
from textflow.metrics.intervals import Interval, bootstrap, ratio
from textflow.metrics.perplexity import token_nll
from textflow.noise import Noise, sample_seeds
from textflow.types import Latents, Mask

from .diagnostic_case import Row, with_interval

STEP_SIZES = (1, 2, 4, 8)  # tokens drawn at once
DRAWS = 16  # drawn beginnings of a step
MASKED_SHARE = 0.5  # of the tokens of a text, for a masked model


class ExternalCase(NamedTuple):
    """Language model and texts of a diagnosis.

    Args:
        model: causal or masked language model.
        texts: token ids of each text.
        seed: random seed.
    """

    model: LanguageModel
    texts: list[TokenIds]
    seed: int = 0

    def streams(self, use: int) -> Iterator[Noise]:
        """One stream per text, another for each use."""
        return (Noise([seed]) for seed in sample_seeds(self.seed, use * len(self.texts), len(self.texts)))

    def masked_text(self, ids: TokenIds, noise: Noise) -> tuple[TokenIds, torch.Tensor]:
        """A text with half of its tokens masked, and their positions in random order."""
        text = self.model.is_text(ids).nonzero()[:, 0]
        order = noise.uniform(len(text))[0].argsort()[: max(int(MASKED_SHARE * len(text)), 1)]
        positions = text[order.to(text.device)]
        return ids.index_fill(0, positions, self.model.mask_id), positions


def likelihood_rows(case: ExternalCase) -> list[Row]:
    """Nats a token of the texts, each token given those before it."""
    nats = [token_nll(case.model.states(ids[None])[1], ids[None]).sum().cpu() for ids in case.texts]
    tokens = torch.tensor([len(ids) - 1 for ids in case.texts])
    return [interval_columns("nats", mean_interval(torch.stack(nats), tokens)) | {"n": int(tokens.sum())}]


def cci_rows(case: ExternalCase) -> list[Row]:
    """CCI of decoding the longest text in steps of k tokens, each drawn given the tokens of the steps before."""
    length = max(map(len, case.texts))
    return [{"k": k, "length": length, "cci": parallel_cci(length, k)} for k in (*STEP_SIZES, length)]


def sharpness_rows(case: ExternalCase) -> list[Row]:
    """Flips of the readout by kind and length of the error, and the ratios to each control."""
    texts = [read_states(case, ids, noise) for ids, noise in zip(case.texts, case.streams(0), strict=True)]
    seeds = sample_seeds(case.seed, len(texts), len(texts))
    return [response_row(result, "flips") for result in readout_sharpness(case.model.head, texts, seeds)]


def response_row(result: ErrorResponse, unit: str) -> Row:
    """Row of a response: along the error and to each control, then the ratios."""
    first = next(iter(result.ratios.values()))
    row: Row = {"error": result.error, "sd": result.length, "mean_length": result.mean_length, unit: first.numerator}
    row |= {name: ratio.denominator for name, ratio in result.ratios.items()}
    for name, value in result.ratios.items():
        row |= with_interval(f"DABI_{name}", value)
    return row | {"n": first.size.num_positions}


def read_states(case: ExternalCase, ids: TokenIds, noise: Noise) -> tuple[Latents, Mask]:
    """Final hidden states of a text [1, L, d], and the mask of those that are read out: the masked positions, or all
    but the first, which sees no text."""
    if case.model.kind == "causal":
        mask = torch.ones_like(ids, dtype=torch.bool)[None]
        mask[:, :1] = len(ids) == 1
        return case.model.states(ids[None])[0], mask
    masked, positions = case.masked_text(ids, noise)
    mask = torch.zeros_like(ids, dtype=torch.bool)[None]
    mask[:, positions] = True
    return case.model.states(masked[None])[0], mask


def dependence_rows(case: ExternalCase) -> list[Row]:
    """Nats lost when k tokens of one step are drawn independently given the state, between two bounds."""
    results = [step_dependence(case, ids, noise) for ids, noise in zip(case.texts, case.streams(2), strict=True)]
    found = [result for result in results if result is not None]
    if not found:
        raise ValueError(f"no text has more than {STEP_SIZES[-1]} tokens, which a step of dependence draws at once")
    ones = torch.ones(len(found))
    rows = []
    for k in STEP_SIZES[1:]:
        low, high, joint = (torch.stack([result[i][k - 1] for result in found]) for i in range(3))
        row = {"k": k, "joint_nats": float(joint.mean())}
        row |= interval_columns("lost_at_least", mean_interval(low, ones))
        row |= interval_columns("lost_at_most", mean_interval(high, ones))
        rows.append(row | {"states": len(found), "draws": DRAWS})
    return rows


def step_dependence(case: ExternalCase, ids: TokenIds, noise: Noise) -> TotalCorrelation | None:
    """Dependence at one random state of a text: a beginning, or a text with masks; None for a text too short."""
    most = STEP_SIZES[-1]
    if case.model.kind == "masked":
        masked, positions = case.masked_text(ids, noise)
        if len(positions) < most:
            return None
        return total_correlation(masked_tokens(case.model, masked, positions[:most], DRAWS, noise))
    if len(ids) <= most:
        return None
    end = 1 + int(noise.uniform()[0] * (len(ids) - most))
    return total_correlation(next_tokens(case.model, ids[:end], most, DRAWS, noise))


def mean_interval(sums: torch.Tensor, counts: torch.Tensor) -> Interval:
    """Sum over count with its 95% interval over texts."""
    return bootstrap(ratio(sums, counts), len(sums))


def interval_columns(name: str, interval: Interval) -> Row:
    """Columns of a value and its interval, without the latter if there is a single text."""
    if interval.low is None:
        return {name: interval.value}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def image_rows(decoder: ImageDecoder, images: list[Images], seed: int) -> list[Row]:
    """Squared error of the decoded image by length of the error, and the ratios to each control."""
    seeds = sample_seeds(seed, 0, len(images))
    return [response_row(result, "squared_error") for result in image_response(decoder, images, seeds)]


MEASURES: dict[str, Callable[[ExternalCase], list[Row]]] = {
    **{"likelihood": likelihood_rows, "cci": cci_rows, "sharpness": sharpness_rows, "dependence": dependence_rows},
}
