"""Decoders on one scale, DABI against three controls and CCI: those of packages, and those of trained runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer

from textflow.codecs.hosted import BertCodec
from textflow.external.error_response import ErrorResponse, Sample
from textflow.external.image_generator import (
    ImageGenerator,
    generator_response,
    load_eyes,
    load_faces,
    load_mobilestylegan,
)
from textflow.external.language_model import LanguageModel, TokenIds, load_language_model
from textflow.external.packages import TEXTS, Package, find_package, missing_files
from textflow.external.super_resolution import load_upscaler
from textflow.external.text_decoder import linear_discriminant, nearest_embedding, text_response
from textflow.noise import sample_seeds

from .external import ExternalCase, read_states, response_row
from .record import Record
from .text_file import read_texts

Family: TypeAlias = Literal["image", "continuous text", "token diffusion", "autoregressive"]
Unit: TypeAlias = Literal["flips", "image_error"]
Folders: TypeAlias = Mapping[str, Path]
TEXT_LENGTH = 64  # tokens of a text, at most
NOISE_LENGTHS = (1.0,)  # of the empirical posterior, in standard deviations of the latents
BANK_TEXTS = 64  # texts of the bank of a language model
FIT_TEXTS = 512  # texts of the bank of an encoder, on which its readout is fitted
WIKI = "wiki-summaries"


@dataclass(frozen=True)
class PackagedDecoder:
    """A decoder whose weights `textflow fetch` gets.

    Args:
        label: what it is, in one line.
        family: kind of the model.
        needs: names of the fetched folders that it needs.
        cci: CCI of its decoding: 0 for one readout of all values at once, 1 for one token after another.
        unit: what its response counts: flips of tokens, or the squared error of an image over the images' variance.
        max_samples: number of texts or images at most, for decoders of different cost.
        measure: (folders, number of texts or images, seed) -> responses, and facts to record.
    """

    label: str
    family: Family
    needs: tuple[str, ...]
    cci: float
    unit: Unit
    max_samples: int
    measure: Callable[[Folders, int, int], tuple[list[ErrorResponse], Record]]

    @property
    def packages(self) -> list[Package]:
        """The packages of its folders."""
        return [find_package(name) for name in self.needs]

    @property
    def origin(self) -> str:
        """Names and versions of its packages."""
        return ", ".join(f"{package.package} {package.version}" for package in self.packages)

    def folders(self, parent: Path) -> Folders:
        """Its folders.

        Raises:
            ValueError: for a folder that was not fetched, or whose files are not those of the package.
        """
        for package in self.packages:
            if missing := missing_files(package, parent / package.name):
                raise ValueError(
                    f"no {missing[0]} in {parent / package.name}: textflow fetch {package.name}"
                    f" ({package.bytes / 1e6:.0f} MB, {package.licence})"
                )
        return {name: parent / name for name in self.needs}

    def record(self, name: str, folders: Folders, n: int, seed: int) -> Record:
        """Name, family, CCI, and a row for each length of the error: raw rates, then the ratios to each control."""
        n = min(n, self.max_samples)
        responses, facts = self.measure(folders, n, seed)
        rows = [response_row(response, self.unit) for response in responses]
        about = {"name": name, "label": self.label, "family": self.family, "cci": self.cci, "unit": self.unit}
        return about | {"weights": self.origin, "rows": rows, "n": n} | facts


def measure_images(
    load: Callable[[Path], ImageGenerator], folders: Folders, n: int, seed: int
) -> tuple[list[ErrorResponse], Record]:
    """Responses of an image generator."""
    (folder,) = folders.values()
    return generator_response(load(folder), n, seed, NOISE_LENGTHS), {}


@lru_cache(maxsize=1)
def load_model(folder: Path) -> LanguageModel:
    """A language model, which its head and its table of embeddings share."""
    return load_language_model(str(folder))


def wiki_ids(encode: Callable[[list[str], int], Sequence[TokenIds]], folders: Folders, n: int) -> list[TokenIds]:
    """Token ids of the first n summaries, at most 64 tokens each."""
    texts = [text for text in read_texts(folders[WIKI] / TEXTS).texts if text.strip()][:n]
    return [ids for ids in encode(texts, TEXT_LENGTH) if len(ids) > 1]


def measure_head(folders: Folders, n: int, seed: int) -> tuple[list[ErrorResponse], Record]:
    """Responses of SmolLM2's last layer at the final hidden state."""
    model = load_model(folders["smollm2"])
    case = ExternalCase(model, wiki_ids(model.encode, folders, n + BANK_TEXTS), seed)
    samples = [read_states(case, ids, noise) for ids, noise in zip(case.texts, case.streams(0), strict=True)]
    return respond(model.head, samples, n, seed), {}


def measure_table(folders: Folders, n: int, seed: int) -> tuple[list[ErrorResponse], Record]:
    """Responses of SmolLM2's table of embeddings, read out by the nearest one."""
    model = load_model(folders["smollm2"])
    table = next(layer for layer in model.model.modules() if isinstance(layer, nn.Embedding)).weight.detach()
    rows = wiki_ids(model.encode, folders, n + BANK_TEXTS)
    samples = [(table[ids][None], model.is_text(ids)[None]) for ids in rows]
    return respond(nearest_embedding(table), samples, n, seed), {}


def measure_encoder(folders: Folders, n: int, seed: int) -> tuple[list[ErrorResponse], Record]:
    """Responses of a linear readout of MiniLM's last layer, fitted on the texts of the bank."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folders["minilm"], trust_remote_code=False)
    width = AutoConfig.from_pretrained(folders["minilm"], trust_remote_code=False).hidden_size
    codec = BertCodec(len(tokenizer), str(folders["minilm"]), dim=width)

    def encode(texts: list[str], length: int) -> list[TokenIds]:
        return [torch.tensor(row[:length]) for row in tokenizer(texts, verbose=False)["input_ids"]]

    texts = wiki_ids(encode, folders, n + FIT_TEXTS)
    special = torch.tensor(tokenizer.all_special_ids)
    samples = [(codec.encode(ids[None]), ~torch.isin(ids, special)[None]) for ids in texts]
    states, tokens = (
        torch.cat([part[mask[0]] for part, (_, mask) in zip(parts, samples[n:], strict=True)])
        for parts in ([x[0] for x, _ in samples[n:]], texts[n:])
    )
    decode, known = linear_discriminant(states, tokens)
    read = torch.cat([known[decode(x[mask]).argmax(-1)] for x, mask in samples[:n]])
    real = torch.cat([ids[mask[0]] for ids, (_, mask) in zip(texts[:n], samples[:n], strict=True)])
    return respond(decode, samples, n, seed), {"readout_accuracy": float((read == real).double().mean())}


def respond(decode: Callable[[Tensor], Tensor], samples: Sequence[Sample], n: int, seed: int) -> list[ErrorResponse]:
    """Responses of the first n samples, with the others as the bank."""
    bank = torch.cat([x[mask] for x, mask in samples[n:]])
    seeds = sample_seeds(seed, len(samples), n)
    return text_response(decode, samples[:n], bank, seeds, NOISE_LENGTHS)


DECODERS = {
    "gan-face": PackagedDecoder(
        "DCGAN of faces", "image", ("gan-face",), 0.0, "image_error", 64, partial(measure_images, load_faces)
    ),
    "eye": PackagedDecoder(
        "DCGAN of painted eyes", "image", ("eye",), 0.0, "image_error", 64, partial(measure_images, load_eyes)
    ),
    "mobilestylegan": PackagedDecoder(
        "MobileStyleGAN of faces",
        *("image", ("mobilestylegan",), 0.0, "image_error", 16, partial(measure_images, load_mobilestylegan)),
    ),
    "upscaler": PackagedDecoder(
        "super-resolution of a photograph",
        *("image", ("upscaler",), 0.0, "image_error", 64, partial(measure_images, load_upscaler)),
    ),
    "smollm2-table": PackagedDecoder(
        "SmolLM2's embeddings, nearest one", "continuous text", ("smollm2", WIKI), 0.0, "flips", 16, measure_table
    ),
    "minilm": PackagedDecoder(
        "MiniLM's last layer, linear readout", "continuous text", ("minilm", WIKI), 0.0, "flips", 64, measure_encoder
    ),
    "smollm2-head": PackagedDecoder(
        "SmolLM2's head, last hidden state", "autoregressive", ("smollm2", WIKI), 1.0, "flips", 16, measure_head
    ),
}
