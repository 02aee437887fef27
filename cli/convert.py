"""textflow convert elf SOURCE TARGET"""

from pathlib import Path
from typing import Literal


def convert(
    system: Literal["elf"],
    source: str,
    target: Path,
    tokenizer: str = "t5-small",
    encoder: str = "t5-small",
    seq_length: int = 1024,
    noise_scale: float = 2.0,
    t_eps: float = 0.05,
    latent_mean: float = 0.0,
    latent_std: float = 0.2,
    guidance_min: float = 0.5,
    guidance_max: float = 5.0,
    force: bool = False,
) -> None:
    """Convert another repository's checkpoint into a textflow run.

    Args:
        system: repository that wrote the checkpoint.
        source: checkpoint file, folder with files checkpoint_<step> (uses the last), or Hugging Face Hub name.
        target: folder for the new run.
        tokenizer: Hub name or folder of the checkpoint's tokenizer.
        encoder: Hub name or folder of the checkpoint's frozen encoder, which is loaded only to encode.
        seq_length: number of tokens in a text.
        noise_scale: standard deviation of the noise that the checkpoint was trained with.
        t_eps: lower bound on 1 - t when the checkpoint divides by it to get velocities.
        latent_mean: mean that is subtracted from the encoder's hidden states.
        latent_std: standard deviation that the encoder's hidden states are divided by.
        guidance_min: smallest self-conditioning guidance scale in training.
        guidance_max: largest self-conditioning guidance scale in training.
        force: overwrite the target folder if it is not empty.
    """
    from textflow.convert.elf import ELFSettings, convert_elf

    if target.exists() and any(target.iterdir()) and not force:
        raise ValueError(f"{target} is not empty; choose another folder or give --force true")
    settings = ELFSettings(noise_scale, t_eps, latent_mean, latent_std, guidance_min, guidance_max)
    print(convert_elf(source, target, tokenizer, encoder, seq_length, settings))
