"""Protocols by name: who judges, what counts, how many samples; and what a run says of itself."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from textflow.config.overlays import sampling
from textflow.config.recipe import opened, tree_of
from textflow.metrics import Scorer
from textflow.metrics.token_weights import find
from textflow.runtime.atomic import content
from textflow.types import Batch

Record = dict[str, Any]
FOLDER = Path(__file__).parent / "protocols"
SPLIT = ("source", "files", "validation", "held_apart")  # keys of data: which documents a model was trained on


@dataclass(frozen=True)
class Protocol:
    """How a number is measured. Two numbers are compared only where all of it is equal.

    Args:
        name: of the file.
        scorer: Hub name or folder of the judge; `local` is the one beside the run, fitted where it is missing.
        counting: which tokens count and how they add up: local, elf, mdlm, langflow or ld4lg.
        entropy: whose tokens it is over: the scorer's or the generator's.
        n: samples that it needs.
        dtype: of the scorer: float32, float16 or bfloat16.
        truncation: most tokens of a text.
        revision: of the scorer on the Hub: branch, tag or commit.
        batch_size: texts at once; counts where an incomplete last batch is dropped.
        mauve: samples, and as many real texts, that MAUVE needs.
        memory: whether the share of 4-grams seen in training is measured: it reads all training text once a cell.
    """

    name: str
    scorer: str
    counting: str
    entropy: Literal["scorer", "generator"]
    n: int
    dtype: str = "float32"
    truncation: int = 1024
    revision: str | None = None
    batch_size: int = 8
    mauve: int = 5000
    memory: bool = False

    def __post_init__(self) -> None:
        find(self.counting)
        if self.entropy not in ("scorer", "generator") or min(self.n, self.truncation, self.batch_size) < 1:
            raise ValueError(
                f"protocol {self.name}: entropy {self.entropy!r}, n {self.n}, truncation {self.truncation}, batch_size "
                f"{self.batch_size}; needs entropy scorer or generator, the others at least 1"
            )

    def deviations(self, scorer: Scorer, asked: str, n: int) -> list[str]:
        """In what a measurement is not this protocol, in words; a record with any is marked.

        Args:
            scorer: that judged.
            asked: name of it.
            n: texts that there were.
        """
        used = {"scorer": asked, "dtype": scorer.dtype, "truncation": scorer.length, "n": n}
        found = [f"{key} {value} for {getattr(self, key)}" for key, value in used.items() if self.differs(key, value)]
        pinned = self.revision not in (None, scorer.revision) and asked == self.scorer
        return found + ([f"revision {scorer.revision} for {self.revision}"] if pinned else [])

    def differs(self, key: str, value: Any) -> bool:
        """Whether a value is not the protocol's; more samples than it needs are no deviation."""
        return bool(value < self.n) if key == "n" else bool(value != getattr(self, key))


def protocol(name: str) -> Protocol:
    """The protocol of this name, or of this YAML file.

    Args:
        name: elf, mdlm, langflow, ld4lg, local, or a file with the same keys.
    """
    path = FOLDER / f"{name}.yaml" if name in names() else Path(name)
    if not path.is_file():
        raise ValueError(f"no protocol {name!r}; known are {', '.join(names())}, or name a YAML file with their keys")
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Protocol(path.stem, **said)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        keys = ", ".join(field.name for field in fields(Protocol)[1:])
        found = " ".join(str(error).split())
        raise ValueError(f"{path} is no protocol ({found}); its keys are {keys}, the first four needed") from error


def names() -> list[str]:
    """The protocols that come with textflow."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recipe(run: Path) -> Record:
    """The resolved recipe of a run; empty for what is no run folder. RUN/hf is part of RUN."""
    path = (run.parent if run.name == "hf" else run) / "recipe.yaml"
    if not path.is_file():
        return {}
    said = tree_of(path)
    if not said or not isinstance(said.get("data", {}), dict):
        found = f"data: {said['data']}" if said else "nothing"
        raise ValueError(f"{path} is damaged: it holds {found[:80]}, where a run's recipe is needed; copy it anew")
    return said


def refuse_codec(run: Path) -> None:
    """A codec's run writes no texts: an error that names whose do.

    Args:
        run: folder.
    """
    model = recipe(run).get("model")
    name = model.get("class_path") if isinstance(model, dict) else model
    if str(name).rpartition(".")[2] == "Autoencoder":
        raise ValueError(f"{run} holds an Autoencoder, which writes no texts; name a Generator, Masked or CausalLM")


def facts(run: Path, overlays: Sequence[str] = ()) -> Record:
    """What a record says of the run: folder, hash of its weights, recipe with its overlays, length, tokenizer."""
    said = recipe(run)
    if not said:
        raise ValueError(
            f"no recipe.yaml in {run}; eval needs the folder of a fitted run, such as checkpoints/quickstart"
        )
    if not (run / "model.safetensors").is_file():
        raise ValueError(f"no model.safetensors in {run}: it has not saved yet; go on with textflow fit")
    if not (data := said.get("data")):
        raise ValueError(f"{run / 'recipe.yaml'} is damaged: it has no data; copy it anew")
    return {
        "checkpoint": str(run),
        "checkpoint_hash": content(run / "model.safetensors")[:16],
        "recipe": yaml.safe_load(sampling(run / "recipe.yaml", overlays)) if overlays else said,
        "overlays": list(overlays),
        "length": data.get("length", 128),
        "tokenizer": data.get("tokenizer"),
    }


def same_documents(run: Record, judge: Record) -> bool:
    """Whether the recipes of a run and of its judge split the same documents in the same way."""
    return all(run.get("data", {}).get(key) == judge.get("data", {}).get(key) for key in SPLIT)


def apart(run: Record, judge: Record) -> bool | None:
    """Whether the judge was trained on documents that the generator never saw; None where its recipe is unknown."""
    if not judge:
        return None
    return judge.get("data", {}).get("part") == "held_apart" and same_documents(run, judge)


def held_out(data: Record, rows: int) -> Batch:
    """The first rows of a recipe's validation part.

    Args:
        data: the part `data` of a recipe.
        rows: at most.
    """
    batch: Batch = validated(data).first(rows, held_out=True)
    return batch


def validated(data: Record) -> Any:
    """The data module of a recipe, open, which has validation rows.

    Args:
        data: the part `data` of a recipe.
    """
    module = opened(data)
    if not len(module.validation_rows):
        raise ValueError("no validation text to compare with; the run's recipe needs data.validation above 0")
    return module


class Real(NamedTuple):
    """Real text: tokens of validation rows, without padding, and the data module that they are of."""

    ids: list[list[int]]
    data: Any


def real(data: Record, n: int) -> Real:
    """Up to n validation rows.

    Args:
        data: the part `data` of a recipe.
        n: most rows.
    """
    module = validated(data)
    batch = module.first(n, held_out=True)
    rows = zip(batch.ids, batch.mask, strict=True)
    return Real([ids[mask].tolist() for ids, mask in rows], module)
