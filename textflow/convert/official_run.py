"""Write a run in the published layout of its system, which that system's own code and its converter read."""

from pathlib import Path
from typing import Literal, TypeAlias, cast

from textflow import run_folder
from textflow.codecs import OneHot
from textflow.convert.cola import write_cola
from textflow.convert.discrete import write_discrete
from textflow.convert.elf import write_elf
from textflow.convert.flm import write_flm
from textflow.convert.hf import save_hf_tokenizer
from textflow.convert.langflow import write_langflow
from textflow.discrete import Absorbing, TokenDiT
from textflow.models.base import Trainable
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.generator import Generator
from textflow.nets import ELF, ColaDiT, DiT, LangFlow
from textflow.training.weights import read_weights

System: TypeAlias = Literal["elf", "flm", "fmlm", "mdlm", "duo", "langflow", "cola"]


def write_official(system: System, run: Path, folder: Path, half: bool = False) -> str:
    """Write the averaged weights of a run as its system's own code publishes them; returns a one-line summary.

    Args:
        system: system of the run.
        run: run folder.
        folder: folder to write.
        half: whether the weights are written in float16.
    """
    model = run_folder.load(run)
    found = system_of(model)
    if found is None:
        raise ValueError(
            f"{run} holds a {type(model).__name__} of the net {type(model.net).__name__}, which has no published "
            f"layout; textflow convert run {run} hf FOLDER"
        )
    if found != system:
        raise ValueError(f"{run} is of the system {found}, not {system}: textflow convert run {run} {found} FOLDER")
    if half:
        model.half()
    try:
        options = write_model(system, model, folder, run)
    except ValueError as error:
        raise ValueError(f"{run} does not fit the published layout of {system}: {error}") from error
    save_hf_tokenizer(model.tokenizer, folder)
    count = sum(p.numel() for p in model.net.parameters())
    reader = f"textflow convert {system} {folder} TARGET"
    return f"{folder}: {system} of {count:,} parameters in the published layout; {reader} {options}".rstrip()


def system_of(model: Trainable) -> System | None:
    """The system whose published layout a model has; None for a model of no such system."""
    net = model.ema_net
    if isinstance(model, DiscreteDiffusion) and type(net) is TokenDiT:
        return "mdlm" if isinstance(model.objective.process, Absorbing) else "duo"
    if not isinstance(model, Generator):
        return None
    if type(net) is DiT and isinstance(model.codec_of(net), OneHot):
        return "fmlm" if net.two_time else "flm"
    systems: dict[type, System] = {LangFlow: "langflow", ELF: "elf", ColaDiT: "cola"}
    return systems.get(type(net))


def write_model(system: System, model: Trainable, folder: Path, run: Path) -> str:
    """Write the files of a model; returns the options that its converter needs to read them back.

    Args:
        system: system of the model.
        model: model with the weights.
        folder: folder to write.
        run: its run folder.
    """
    if system == "mdlm" or system == "duo":
        write_discrete(system, cast(DiscreteDiffusion, model), folder)
        return ""
    generator = cast(Generator, model)
    if system == "elf":
        return write_elf(generator, folder, trained_steps(run))
    writers = {"langflow": write_langflow, "cola": write_cola}
    writers.get(system, write_flm)(generator, folder)
    return ""


def trained_steps(run: Path) -> int:
    """Optimizer steps of a run's weights; 0 where they do not say."""
    return int(read_weights(run / "model.safetensors")[1].get("step", 0))
