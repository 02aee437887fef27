"""The fenced blocks of README.md and their commands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block of README."""

    section: str
    language: str
    code: str


def read_blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown text, each with its heading."""
    for part in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        section = part.splitlines()[0].removeprefix("## ")
        for language, code in re.findall(r"^```([^\n]*)\n(.*?)^```$", part, re.DOTALL | re.MULTILINE):
            yield Block(section, language, code)


BLOCKS = list(read_blocks(README))


def code_of(section: str, language: str, number: int = 0) -> str:
    """The code of a block; an error if there is none."""
    return [block.code for block in BLOCKS if block[:2] == (section, language)][number]


def shell_commands(code: str) -> list[list[str]]:
    """The arguments of each command of a shell block, without comments; commands are separated by lines or `&&`."""
    lines = [line for joined in code.splitlines() for line in re.split(r"\s&&\s", joined)]
    return [arguments for line in lines if (arguments := shlex.split(line, comments=True))]
