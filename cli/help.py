"""Help of a verb: its parser and the form of its options."""

import re
import sys
from typing import Any

from .output import write_output


def make_parser() -> Any:
    """Parser class whose help raises the errors of the output, which argparse drops."""
    from jsonargparse import ArgumentParser

    class StrictParser(ArgumentParser):
        def print_help(self, file: Any = None) -> None:
            write_output(file or sys.stdout, self.format_help())

    return StrictParser


def make_help_formatter() -> Any:
    """Help formatter class that prints options with dashes and types without `<class ...>`."""
    from jsonargparse import DefaultHelpFormatter

    class PlainFormatter(DefaultHelpFormatter):
        def _format_action_invocation(self, action: Any) -> str:
            names = action.option_strings
            action.option_strings = [part for name in names for part in help_names(name)]
            try:
                return super()._format_action_invocation(action)
            finally:
                action.option_strings = names

        def _get_type_str(self, action: Any) -> str | None:
            text = super()._get_type_str(action)
            return text and re.sub(r"<class '([\w.]+)'>", r"\1", text)

    return PlainFormatter


def help_names(option: str) -> list[str]:
    """Spellings of a parser option in the help: --batch_size -> --batch-size, --n -> -n and --num-samples."""
    return ["-n", "--num-samples"] if option == "--n" else [option.replace("_", "-")]
