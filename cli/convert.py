"""textflow convert SYSTEM SOURCE TARGET, or textflow convert run RUN LAYOUT FOLDER"""

from pathlib import Path
from typing import Literal


def convert(
    system: Literal["elf", "flm", "fmlm", "mdlm", "duo", "langflow", "cola", "run"],
    source: str,
    target: Path,
    tokenizer: str | None = None,
    encoder: str = "t5-small",
    seq_length: int | None = None,
    noise_scale: float = 2.0,
    t_eps: float = 0.05,
    latent_mean: float = 0.0,
    latent_std: float = 0.2,
    guidance_min: float = 0.5,
    guidance_max: float = 5.0,
    logit_softcap: float | None = None,
    force: bool = False,
    to: Literal["hf", "elf", "flm", "fmlm", "mdlm", "duo", "langflow", "cola"] | None = None,
    half: bool = False,
    license: str | None = None,
) -> None:
    """Convert a published checkpoint into a run, or a run for other libraries (textflow convert run RUN hf FOLDER) or
    into the published layout of its system (textflow convert run RUN langflow FOLDER).

    Args:
        system: system whose published checkpoint it is; run for a run of textflow.
        source: checkpoint file, folder of one (of files checkpoint_<step> the last), or Hugging Face Hub name; for
            cola, the folder of cola_vae and cola_dit; for run, the run folder.
        target: folder for the new run, or for the files.
        tokenizer: Hub name or folder of its tokenizer; default: t5-small for elf, OLMo 2's for cola, bert-base-uncased
            for 30,522 tokens, else gpt2.
        encoder: Hub name or folder of the checkpoint's frozen encoder, which is loaded only to encode.
        seq_length: number of tokens in a text; default: that of the checkpoint's config.json, else the published one:
            512 for cola, 128 for 30,522 tokens, else 1024.
        noise_scale: standard deviation of the noise that the checkpoint was trained with.
        t_eps: lower bound on 1 - t when the checkpoint divides by it to get velocities.
        latent_mean: mean that is subtracted from the encoder's hidden states.
        latent_std: standard deviation that the encoder's hidden states are divided by.
        guidance_min: smallest self-conditioning guidance scale in training.
        guidance_max: largest self-conditioning guidance scale in training.
        logit_softcap: soft limit of the token logits that an flm or fmlm checkpoint was trained with, which published
            files do not tell: score both ways on your text; default: that of config.json if it has one, else none.
        force: overwrite the target folder if it is not empty.
        to: layout of an exported run, hf or its system; usually written before its folder.
        half: write the weights of an exported run in float16, half as large.
        license: licence of the exported weights, for the card of hf, such as apache-2.0; default: a placeholder.
    """
    from textflow.config.shipped import find_run
    from textflow.convert.elf import ELFSettings, convert_elf
    from textflow.convert.hf import export_run
    from textflow.convert.official_run import write_official

    check_target(target, force, system, to, license)
    if to == "hf":
        return print(export_run(find_run(source), target, half, license))
    if to is not None:
        return print(write_official(to, find_run(source), target, half))
    assert system != "run", "it has a layout"
    if system != "elf":
        return print(convert_system(system, source, target, tokenizer, seq_length, logit_softcap))
    settings = ELFSettings(noise_scale, t_eps, latent_mean, latent_std, guidance_min, guidance_max)
    print(convert_elf(source, target, tokenizer or "t5-small", encoder, seq_length, settings))


def check_target(target: Path, force: bool, system: str, to: str | None, license: str | None) -> None:
    """Raise an error for a folder in use, a checkpoint with a layout, a run without one, or a licence and no card."""
    if target.exists() and any(target.iterdir()) and not force:
        raise ValueError(f"{target} is not empty; choose another folder or give --force true")
    if (system == "run") != (to is not None):
        raise ValueError(
            f"convert {system} got {to or 'no layout'}; a run is written by: convert run RUN hf FOLDER, or with its "
            "system in place of hf"
        )
    if license is not None and to != "hf":
        raise ValueError(f"--license is for the card of the layout hf; {to or system} has none, so leave it out")


def convert_system(
    system: Literal["flm", "fmlm", "mdlm", "duo", "langflow", "cola"],
    source: str,
    target: Path,
    tokenizer: str | None,
    seq_length: int | None,
    logit_softcap: float | None,
) -> str:
    """Convert a published checkpoint of another system than ELF, and summarise it; arguments as in `convert`."""
    from textflow.convert.cola import convert_cola
    from textflow.convert.discrete import convert_discrete
    from textflow.convert.flm import convert_flm
    from textflow.convert.langflow import convert_langflow

    if system == "cola":
        return convert_cola(source, target, tokenizer, seq_length)
    if system == "langflow":
        return convert_langflow(source, target, tokenizer, seq_length)
    if system == "mdlm" or system == "duo":
        return convert_discrete(system, source, target, tokenizer, seq_length)
    return convert_flm(system, source, target, tokenizer, seq_length, logit_softcap)
