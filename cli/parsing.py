"""Command-line arguments of a verb: normalization for the parser, and error messages for invalid arguments."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from inspect import Parameter, getdoc, signature
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from .help import help_names, make_help_formatter, make_parser

OPTIONAL_FIRST = {"diagnose": "run", "sample": "run", "fetch": "name"}  # first argument that the parser needs as --name
MULTI_RUN_VERBS = ("compare", "report")  # RUN RUN ...; reproduce takes them after FIGURE
OVERLAY_VERBS = ("sample", "eval", "diagnose")  # RUN OVERLAY ...: overlays follow the run
NEGATIVE_NUMBER = re.compile(r"-(\.?\d.*|inf|nan)")
TYPE_NAMES: dict[Any, list[str]] = {int: ["a whole number"], float: ["a number"], bool: ["true", "false"]}
TYPE_NAMES |= {str: ["a text"], Path: ["a path"]}


def run_command(verb: str, argv: list[str], command: Callable[..., Any]) -> Any:
    """Parse the arguments of a verb, call its function and return the result."""
    from jsonargparse import ArgumentError, auto_cli

    # the docstring up to its arguments; the parser by itself keeps only the first line
    about = {"usage": usage_line(verb, command), "description": (getdoc(command) or "").split("\n\nArgs:")[0]}
    classes = {"parser_class": make_parser(), "formatter_class": make_help_formatter()}
    options: dict[str, Any] = {"prog": f"textflow {verb}", **about, **classes}
    try:
        return auto_cli(command, args=normalize_argv(verb, argv, command), exit_on_error=False, **options)
    except ArgumentError as error:
        raise ValueError(f"{explain_error(str(error), verb, command)}; see textflow {verb} --help") from error


def usage_line(verb: str, command: Callable[..., Any]) -> str:
    """Usage of a verb, such as `textflow sample RUN [OVERLAY ...] [--key value ...]`."""
    needed = [name.upper() for name, part in parameters_of(command).items() if part.default is Parameter.empty]
    form = "RUN [RUN ...]" if verb in MULTI_RUN_VERBS else "RUN [OVERLAY ...]" if verb in OVERLAY_VERBS else None
    form = {"reproduce": "FIGURE [RUN ...]", "fetch": "[NAME]"}.get(verb, form)
    return " ".join(["textflow", verb, *([form] if form else needed), "[--key value ...]"])


def normalize_argv(verb: str, argv: list[str], command: Callable[..., Any]) -> list[str]:
    """Rewrite the arguments of a verb into the form that the parser accepts."""
    if verb in OVERLAY_VERBS:
        argv = expand_overlays(argv)
    if verb in MULTI_RUN_VERBS:
        argv = expand_overlays(["", *argv], "runs")[1:]
    if verb == "reproduce":
        argv = expand_overlays(argv, "runs")
    if verb in OPTIONAL_FIRST and argv and not argv[0].startswith("-"):
        argv = [f"--{OPTIONAL_FIRST[verb]}", *argv]
    if verb == "convert" and argv[:1] == ["run"]:
        argv = expand_layout(argv, allowed_values(parameters_of(command)["to"].annotation))
    if verb == "recipes":  # --copy NAME FILE
        argv = expand_copy(argv)
    argv = [to_underscores(token) for token in argv]
    if "n" in parameters_of(command):
        argv = [re.sub("^--num_samples(?==|$)", "--n", token) for token in argv]
    if "data_files" in parameters_of(command):
        argv = [re.sub(r"^--data(\.files)?(?==|$)", "--data_files", token) for token in argv]
    return expand_flags(join_negative_numbers(argv), command)


def normalize_recipe_argv(argv: list[str]) -> list[str]:
    """Rewrite --eval-steps as --eval_steps; recipe keys, which contain dots, are unchanged."""
    return [word if "." in word.partition("=")[0] or word[:2] != "--" else to_underscores(word) for word in argv]


def expand_overlays(argv: list[str], option: str = "overlays") -> list[str]:
    """RUN a.yaml b.yaml --key value -> RUN --overlays+ a.yaml --overlays+ b.yaml --key value."""
    count = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    return [*argv[:1], *(part for word in argv[1:count] for part in (f"--{option}+", word)), *argv[max(count, 1) :]]


def expand_copy(argv: list[str]) -> list[str]:
    """--copy NAME FILE -> --copy NAME --to FILE."""
    at = argv.index("--copy") + 2 if "--copy" in argv else len(argv)
    return [*argv[:at], "--to", *argv[at:]] if argv[at:] and not argv[at].startswith("-") else argv


def expand_layout(argv: list[str], layouts: list[str]) -> list[str]:
    """run RUN LAYOUT FOLDER -> run RUN FOLDER --to LAYOUT."""
    return [*argv[:2], *argv[3:], "--to", argv[2]] if argv[2:3] and argv[2] in layouts else argv


def to_underscores(token: str) -> str:
    """--prompt-file -> --prompt_file, -n -> --n; -h and -1 are unchanged."""
    name, equals, value = token.partition("=")
    if re.fullmatch("-[a-zA-Z]", name) and name != "-h":
        name = "-" + name
    return (name[:2] + name[2:].replace("-", "_") if name.startswith("--") else name) + equals + value


def join_negative_numbers(argv: list[str]) -> list[str]:
    """--seed -1 -> --seed=-1, since the parser would read a separate -1 as an option."""
    joined: list[str] = []
    for word in argv:
        if joined and NEGATIVE_NUMBER.fullmatch(word) and re.fullmatch(r"--\w+", joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def expand_flags(argv: list[str], command: Callable[..., Any]) -> list[str]:
    """--quick -> --quick true, for a boolean option without a value."""
    names = {f"--{name}" for name, part in parameters_of(command).items() if "true" in allowed_values(part.annotation)}
    bare = [word in names and then.startswith("-") for word, then in pairwise([*argv, "--"])]
    return [part for word, alone in zip(argv, bare, strict=True) for part in ((word, "true") if alone else (word,))]


def explain_error(message: str, verb: str, command: Callable[..., Any]) -> str:
    """Rewrite a parser error in one line: the option, its value, the values allowed, the closest match."""
    known = parameters_of(command)
    if match := re.search(r"unrecognized arguments: (\S+)", message):
        return explain_unknown(match[1].partition("=")[0], verb, command)
    if match := re.search(r"arguments are required: ([\w, ]+)", message):
        return f"no {match[1].upper()}: {usage_line(verb, command)}"
    if (match := re.search(r"argument --(\w+).*: expected one argument", message)) and match[1] in known:
        name, part = match[1], known[match[1]]
        is_text = "a text" in allowed_values(part.annotation)
        hint = f" (one that begins with - as {option_name(name)}=-...)" if is_text else ""
        return f"{format_option(name, part)} has no value, needs {describe_values(part)}{hint}"
    given = re.search(r"Given value: (.*)", message, re.S) or re.search(r"Got value: (.*)", message, re.S)
    if (match := re.search(r'Parser key "(\w+)"', message)) and given and match[1] in known:
        part, value = known[match[1]], " ".join(given[1].split())[:80]
        hint = suggest(value, allowed_values(part.annotation))
        return f"{format_option(match[1], part)} is {value!r}, needs {describe_values(part)}{hint}"
    return " ".join(message.split())[:600]


def explain_unknown(token: str, verb: str, command: Callable[..., Any]) -> str:
    """Error message for an argument that a verb does not accept."""
    if not token.startswith("-"):
        return f"unexpected argument {token!r}: {usage_line(verb, command)}"
    token = token.replace("_", "-")
    optional = [name for name, part in parameters_of(command).items() if part.default is not Parameter.empty]
    return f"no option {token}{suggest(token, [word for name in optional for word in help_names(f'--{name}')])}"


def parameters_of(command: Callable[..., Any]) -> dict[str, Parameter]:
    """Parameters of a function by name."""
    return dict(signature(command).parameters)


def format_option(name: str, parameter: Parameter) -> str:
    """Command-line spelling of a parameter: RUN, -n, --batch-size."""
    return name.upper() if parameter.default is Parameter.empty else option_name(name)


def option_name(name: str) -> str:
    """Command-line spelling of an optional parameter: -n, --batch-size."""
    return f"-{name}" if len(name) == 1 else "--" + name.replace("_", "-")


def describe_values(parameter: Parameter) -> str:
    """Allowed values of a parameter as text."""
    values = allowed_values(parameter.annotation)
    return ("one of " if len(values) > 1 else "") + ", ".join(values)


def allowed_values(annotation: Any) -> list[str]:
    """Values that a type allows, or the name of the type; None is left out."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    return TYPE_NAMES.get(annotation) or [word for part in get_args(annotation) for word in allowed_values(part)]


def suggest(value: str, known: list[str]) -> str:
    """` (did you mean ...?)`, or an empty text if no known value is close."""
    matches = get_close_matches(value, known, 1)
    return f" (did you mean {matches[0]}?)" if matches else ""
