"""Protocols by name: scorer, token weighting and number of samples; and the facts of a run for its records."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from textflow.config.overlays import with_sampling_overlays
from textflow.config.paths import FILES
from textflow.config.recipe import open_data
from textflow.config.strict_yaml import load_yaml, refuse_duplicates
from textflow.metrics import TextScorer
from textflow.metrics.token_weights import find_weighting
from textflow.runtime.atomic import sha256
from textflow.types import Batch

Record = dict[str, Any]
PROTOCOL_FOLDER = Path(__file__).parent / "protocols"
SPLIT_KEYS = ("source", "files", "val_fraction", "scorer_holdout", "skip")  # data keys that determine the documents


@dataclass(frozen=True)
class Protocol:
    """Measurement protocol. Two numbers are comparable only if all fields are equal.

    Args:
        name: name of the protocol.
        scorer: Hub name or folder of the scorer; `local`: the one next to the run, fitted if missing; `grammar`: the
            exact law of the run's source `Stories`.
        token_weighting: rule for which tokens count and how they add up: local, elf, mdlm, langflow, ld4lg or whole.
        entropy_ids: tokens for the entropy: scorer or generator.
        n: number of samples.
        dtype: scorer dtype: float32, float16 or bfloat16; float64 of a grammar.
        truncation: maximum number of tokens per text.
        revision: scorer revision on the Hub: branch, tag or commit.
        batch_size: texts per batch; matters where an incomplete last batch is dropped.
        mauve_samples: number of samples, and of real texts, that MAUVE needs.
        memorization: measure the share of 4-grams found in training text; reads all training text once per cell.
        download: commands that fetch a scorer that is a folder.
    """

    name: str
    scorer: str
    token_weighting: str
    entropy_ids: Literal["scorer", "generator"]
    n: int
    dtype: str = "float32"
    truncation: int = 1024
    revision: str | None = None
    batch_size: int = 8
    mauve_samples: int = 5000
    memorization: bool = False
    download: str | None = None

    def __post_init__(self) -> None:
        find_weighting(self.token_weighting)
        if self.entropy_ids not in ("scorer", "generator") or min(self.n, self.truncation, self.batch_size) < 1:
            raise ValueError(
                f"protocol {self.name}: entropy_ids {self.entropy_ids!r}, n {self.n}, truncation {self.truncation}, "
                f"batch_size {self.batch_size}; needs entropy_ids scorer or generator, the others at least 1"
            )

    def deviations(self, scorer: TextScorer, scorer_name: str, num_texts: int) -> list[str]:
        """Deviations of a measurement from this protocol; a record with any is marked."""
        used = {"scorer": scorer_name, "dtype": scorer.dtype, "truncation": scorer.max_length, "n": num_texts}
        diffs = [f"{key} {value} for {getattr(self, key)}" for key, value in used.items() if self.differs(key, value)]
        pinned = self.revision not in (None, scorer.revision) and scorer_name == self.scorer
        return diffs + ([f"revision {scorer.revision} for {self.revision}"] if pinned else [])

    def differs(self, key: str, value: Any) -> bool:
        """True if a value differs from the protocol's; extra samples are not a deviation."""
        return bool(value < self.n) if key == "n" else bool(value != getattr(self, key))


def load_protocol(name: str) -> Protocol:
    """Load a protocol by name or from a YAML file.

    Args:
        name: elf, mdlm, langflow, ld4lg, local, smollm, stories, or a file with the same keys.
    """
    path = PROTOCOL_FOLDER / f"{name}.yaml" if name in protocol_names() else Path(name)
    if not path.is_file():
        known = ", ".join(protocol_names())
        raise ValueError(f"no protocol {name!r}; known are {known}, or name a YAML file with their keys")
    try:
        text = path.read_text(encoding="utf-8")
        refuse_duplicates(text, str(path))
        return Protocol(path.stem, **yaml.safe_load(text))
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        keys = ", ".join(field.name for field in fields(Protocol)[1:])
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a protocol ({reason}); its keys are {keys}, the first four needed") from error


def protocol_names() -> list[str]:
    """Names of the protocols shipped with textflow."""
    return sorted(path.stem for path in PROTOCOL_FOLDER.glob("*.yaml"))


def has_latents(run: Path) -> bool:
    """True if a run's model is a generator on latents, with the samplers and escapes of these."""
    return str(run_recipe(run)["model"]["class_path"]).rpartition(".")[2] == "Generator"


def is_of_stories(data: Record) -> bool:
    """True if the `data` section of a recipe names the source `Stories`, whose law is known."""
    source = data.get("source")
    return isinstance(source, dict) and str(source.get("class_path")).split(".")[-1] == "Stories"


def run_recipe(run: Path) -> Record:
    """Resolved recipe of a run; empty if the path is not a run folder. RUN/hf counts as RUN."""
    path = (run.parent if run.name == "hf" else run) / "recipe.yaml"
    if not path.is_file():
        return {}
    recipe = load_yaml(path)
    if not recipe or not isinstance(recipe.get("data", {}), dict):
        content = f"data: {recipe['data']}" if recipe else "nothing"
        raise ValueError(f"{path} is damaged: it holds {content[:80]}, where a run's recipe is needed; copy it again")
    return recipe


def require_text_model(run: Path) -> None:
    """Raise an error for a codec's run, which writes no texts."""
    model = run_recipe(run).get("model")
    name = model.get("class_path") if isinstance(model, dict) else model
    if str(name).rpartition(".")[2] == "Autoencoder":
        models = "a Generator, DiscreteDiffusion or CausalLM"
        raise ValueError(f"{run} holds an Autoencoder, which writes no texts; name {models}")


def run_facts(run: Path, overlays: Sequence[str] = ()) -> Record:
    """Record entries of a run: folder, weights hash, recipe with overlays, seq_length, tokenizer."""
    recipe = run_recipe(run)
    if not recipe:
        example = "checkpoints/quickstart"
        raise ValueError(f"no recipe.yaml in {run}; eval needs the folder of a fitted run, such as {example}")
    if not (run / "model.safetensors").is_file():
        raise ValueError(f"no model.safetensors in {run}: no checkpoint saved yet; resume with textflow fit")
    if not (data := recipe.get("data")):
        raise ValueError(f"{run / 'recipe.yaml'} is damaged: it has no data; copy it again")
    return {
        "checkpoint": str(run),
        "checkpoint_hash": sha256(run / "model.safetensors")[:16],
        "recipe": yaml.safe_load(with_sampling_overlays(run / "recipe.yaml", overlays)) if overlays else recipe,
        "overlays": list(overlays),
        **({"data_files": FILES.get()} if FILES.get() else {}),
        "seq_length": data.get("seq_length", 128),
        "tokenizer": data.get("tokenizer"),
    }


def same_documents(generator_recipe: Record, scorer_recipe: Record) -> bool:
    """True if the recipes of a run and its scorer split the same documents identically."""
    data, scorer_data = generator_recipe.get("data", {}), scorer_recipe.get("data", {})
    return all(data.get(key) == scorer_data.get(key) for key in SPLIT_KEYS)


def is_disjoint(generator_recipe: Record, scorer_recipe: Record) -> bool | None:
    """True if the scorer's training documents are disjoint from the generator's; None if its recipe is unknown."""
    if not scorer_recipe:
        return None
    holdout = scorer_recipe.get("data", {}).get("split") == "scorer_holdout"
    return holdout and same_documents(generator_recipe, scorer_recipe)


def validation_batch(data: Record, num_rows: int) -> Batch:
    """First rows of a recipe's validation split."""
    batch: Batch = open_validated(data).first_rows(num_rows, held_out=True)
    return batch


def open_validated(data: Record) -> Any:
    """Open the data module of a recipe and require validation rows."""
    module = open_data(data)
    if not len(module.validation_rows):
        raise ValueError("no validation text to compare with; the run's recipe needs data.val_fraction above 0")
    return module


class ValidationText(NamedTuple):
    """Real text: tokens of validation rows without padding, and their data module."""

    token_ids: list[list[int]]
    data_module: Any


def validation_text(data: Record, max_rows: int) -> ValidationText:
    """Up to n validation rows."""
    module = open_validated(data)
    batch = module.first_rows(max_rows, held_out=True)
    rows = zip(batch.ids, batch.mask, strict=True)
    return ValidationText([ids[mask].tolist() for ids, mask in rows], module)
