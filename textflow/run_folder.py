"""A run is one folder: averaged weights, recipe, tokenizer, card, training state. Load it anywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from textflow.config import overlays as changes
from textflow.config import recipe
from textflow.data import Tokenizer
from textflow.models.base import Trainable
from textflow.models.generator import Generator
from textflow.runtime.atomic import content, replace_text
from textflow.schedules import Clock
from textflow.training.weights import read_weights, write_weights

CARD = """\
---
library_name: textflow
license: apache-2.0
---
# {name}

{title}

{parameters:,} parameters in `{net}`, latents {dim} wide by `{codec}`, {vocab:,} tokens, {length} a text.

```python
import textflow

generator = textflow.load("{name}")
print(generator.generate(n=4, steps=32, seed=0))
```

`recipe.yaml` is the whole recipe, `metrics.csv` every logged number, `model.safetensors` the averaged weights.
"""


def load(run: str | Path, device: str | torch.device = "cpu", overlays: Sequence[str] = ()) -> Trainable:
    """The trained model of a run, in eval mode, with its tokenizer. Runs no code but textflow's, torch's optimizers and
    Lightning's, unless its package is trusted by name: TEXTFLOW_TRUST=package in the environment.

    Args:
        run: folder of the run.
        device: where to put it.
        overlays: recipes that change how it samples, such as recipes/escape/commit.yaml.
    """
    folder = Path(run)
    for name in ("recipe.yaml", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no trained run: {name} is missing; make one with `textflow fit RECIPE`")
    tokenizer = Tokenizer.load(folder / "tokenizer")
    kept = (folder / "recipe.yaml").read_text()
    text = changes.sampling(folder / "recipe.yaml", overlays) if overlays else kept
    model, config = recipe.load_model(text, tokenizer.vocab, str(folder / "recipe.yaml"))
    if config.data.length < 1:
        raise ValueError(
            f"data.length is {config.data.length} in {folder / 'recipe.yaml'}; a text needs at least 1 token"
        )
    tensors = weights(folder)
    model.load_weights(regridded(model, tensors) if overlays and grid(text) != grid(kept) else tensors)
    model.tokenizer, model.length, model.given = tokenizer, config.data.length, config.data.given
    model.eval().to(device)
    if isinstance(model, Generator) and (clocks := model.unmeasured()):
        settle(model, clocks, folder, config.data)
    return model


def grid(text: str) -> Any:
    """What a resolved recipe says of the times of sampling."""
    tree = yaml.safe_load(text)
    return tree["model"]["init_args"].get("grid") if isinstance(tree, dict) else None


def regridded(model: Trainable, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A run's tensors, with the law of the model's grid in place of its own grid's; it may wait to be measured.

    Args:
        model: has another grid than the run was trained with.
        tensors: of the run.
    """
    own = {name: law for name, law in model.state_dict().items() if name.startswith("own_grid.")}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("own_grid.")} | own


def settle(model: Generator, clocks: list[Clock], run: Path, data: Any) -> None:
    """Give clocks that follow the trained denoiser their laws: kept in RUN/clocks, or measured on held-out text.

    Args:
        model: trained.
        clocks: of it, not measured yet.
        run: its folder.
        data: the part of its recipe.
    """
    name = "-".join(clock.title for clock in clocks)
    weights = content(run / "model.safetensors")[:16]
    kept = run / "clocks" / f"{name}-{weights}.safetensors"
    if not kept.is_file():
        batch = recipe.opened(data).first(64, held_out=True)
        model.measure(batch.each(lambda part: part.to(model.device)), clocks)
        kept.parent.mkdir(parents=True, exist_ok=True)
        laws = {f"{i}.{name}": law.cpu() for i, clock in enumerate(clocks) for name, law in clock.named_buffers()}
        write_weights(kept, laws, {})
    for name, law in law_of(kept).items():
        number, buffer = name.split(".", 1)
        dict(clocks[int(number)].named_buffers())[buffer].copy_(law)


def law_of(kept: Path) -> dict[str, torch.Tensor]:
    """The measured laws of clocks in a file."""
    try:
        return read_weights(kept)[0]
    except ValueError as error:
        raise ValueError(f"{kept} is damaged ({error}); remove it, and it is measured anew") from error


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's model.safetensors."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no trained weights: {path.name} is missing; make them with `textflow fit RECIPE`"
        )
    try:
        return read_weights(path)[0]
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); copy it anew, or write it anew from the training state by the same "
            "`textflow fit` as before"
        ) from error


def start(folder: Path, text: str, tokenizer: Tokenizer, model: Trainable, title: str) -> None:
    """Write what a run needs besides its weights.

    Args:
        folder: of the run.
        text: the resolved recipe.
        tokenizer: of its text.
        model: described on the card.
        title: one line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "recipe.yaml", text)
    tokenizer.save(folder / "tokenizer")
    codec = getattr(model, "codec", model.net)
    card = CARD.format(
        name=folder.name,
        title=title,
        parameters=sum(p.numel() for p in model.net.parameters()),
        net=type(model.net).__name__,
        codec=type(codec).__name__,
        dim=getattr(codec, "dim", "-"),
        vocab=tokenizer.vocab,
        length=model.length,
    )
    replace_text(folder / "README.md", card)
