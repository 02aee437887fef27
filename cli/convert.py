"""textflow convert elf SOURCE TARGET"""

from pathlib import Path
from typing import Literal


def convert(
    system: Literal["elf"],
    source: str,
    target: Path,
    tokenizer: str = "t5-small",
    encoder: str = "t5-small",
    length: int = 1024,
    force: bool = False,
) -> None:
    """Turn another repository's checkpoint into a textflow run that loads anywhere.

    Args:
        system: whose checkpoint it is.
        source: checkpoint file, a folder with files checkpoint_<step> (the last is taken), or a Hugging Face Hub name.
        target: folder of the new run.
        tokenizer: Hub name or folder of its tokenizer.
        encoder: Hub name or folder of its frozen encoder; loaded only to encode.
        length: tokens a text.
        force: overwrite target.
    """
    from textflow.convert.elf import elf

    if target.exists() and any(target.iterdir()) and not force:
        raise ValueError(f"{target} is not empty; name another folder or give --force true")
    print(elf(source, target, tokenizer, encoder, length))
