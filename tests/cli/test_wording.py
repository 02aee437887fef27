"""Arguments of a verb: their spellings, and the error messages of invalid ones."""

import re
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from tests.helpers.user_errors import Fails
from textflow.cli.app import VERBS, main
from textflow.cli.parsing import (
    expand_flags,
    expand_overlays,
    join_negative_numbers,
    normalize_argv,
    normalize_recipe_argv,
    run_command,
    to_underscores,
)

WITH_NUM_SAMPLES = ("sample", "eval", "diagnose", "reproduce", "league")  # they take -n N


def verb(
    run: Path,
    n: int | None = None,
    gamma: float = 1.5,
    prompt_file: Path | None = None,
    say: str | None = None,
    quick: bool = False,
    sampler: Literal["ode", "heun"] = "ode",
    compile: bool | Literal["graphs"] = False,
) -> tuple[Path, int | None, float, str | None, bool]:
    """Do it.

    And more.

    Args:
        run: folder.
    """
    return run, n, gamma, say, quick


def with_files(data_files: str = "") -> None:
    """Read text files."""


def with_data(data: str = "") -> None:
    """Read an overlay."""


def given(*argv: str) -> tuple[Path, int | None, float, str | None, bool]:
    return run_command("eval", list(argv), verb)


def all_to_underscores(argv: list[str]) -> list[str]:
    return [to_underscores(token) for token in argv]


def test_arguments_are_rewritten_for_the_parser() -> None:
    for function, argv, expected in (
        (expand_overlays, "run a.yaml b.yaml -n 4", "run --overlays+ a.yaml --overlays+ b.yaml -n 4"),
        (expand_overlays, "run", "run"),
        (expand_overlays, "--help", "--help"),
        (expand_overlays, "", ""),
        (partial(expand_flags, command=verb), "a --quick --n 2", "a --quick true --n 2"),
        (partial(expand_flags, command=verb), "a --n 2 --quick", "a --n 2 --quick true"),
        (partial(expand_flags, command=verb), "--quick false", "--quick false"),
        (normalize_recipe_argv, "a-b.yaml --print-config --x.a-b -x", "a-b.yaml --print_config --x.a-b -x"),
        (normalize_recipe_argv, "--eval-steps [8,4] --a_b --t=a-b", "--eval_steps [8,4] --a_b --t=a-b"),
        (join_negative_numbers, "X --seed -1 --gamma -.5", "X --seed=-1 --gamma=-.5"),
        (join_negative_numbers, "--n 4 -1", "--n 4 -1"),
        (join_negative_numbers, "--n=4 -1", "--n=4 -1"),
        (join_negative_numbers, "--gamma -inf --out -name", "--gamma=-inf --out -name"),
        (partial(normalize_argv, "sample", command=verb), "RUN -n -3", "--run RUN --n=-3"),
        (
            partial(normalize_argv, "eval", command=with_files),
            "R --data a --data.files=b",
            "R --data_files a --data_files=b",
        ),
        (partial(normalize_argv, "eval", command=with_files), "R --data.files=b", "R --data_files=b"),
        (partial(normalize_argv, "league", command=with_data), "--data a", "--data a"),
        (all_to_underscores, "-n -n=4 --a-b --a-b=a-b -h -1 -12 - --", "--n --n=4 --a_b --a_b=a-b -h -1 -12 - --"),
    ):
        assert function(argv.split()) == expected.split()


def test_every_form_of_a_number_reaches_the_verb() -> None:
    for number in ("-1", "-3", "-12", "7"):
        separate = [[name, number] for name in ("-n", "--n", "--num-samples")]
        forms = [*separate, [f"-n={number}"], [f"--num_samples={number}"]]
        assert all(given("R", *form)[1] == int(number) for form in forms)
    for number in ("-5", "-.5", "-1e3", "2"):
        assert given("R", "--gamma", number)[2] == float(number)
    assert given("R", "--quick", "--say", "-1") == (Path("R"), None, 1.5, "-1", True)


def test_an_invalid_argument_is_one_line_with_the_valid_values() -> None:
    for argv, message in (
        (["R", "-n", "1.5"], "-n is '1.5', needs a whole number"),
        (["R", "-n", ""], "-n is '', needs a whole number"),
        (["R", "-n", "a\nb"], "-n is 'a b', needs a whole number"),
        (["R", "--gamma", "abc"], "--gamma is 'abc', needs a number"),
        (["R", "--quick", "3"], "--quick is '3', needs one of true, false"),
        (["R", "--sampler", "odee"], "--sampler is 'odee', needs one of ode, heun (did you mean ode?)"),
        (["R", "--compile", "graph"], "--compile is 'graph', needs one of true, false, graphs (did you mean graphs?)"),
        (["R", "--gama", "3"], "no option --gama (did you mean --gamma?)"),
        (["R", "--prompt-fil", "3", "--xyzzy"], "no option --xyzzy"),
        (["R", "-n", "3", "Z"], "unexpected argument 'Z': textflow eval RUN [OVERLAY ...] [--key value ...]"),
        (["-n", "3"], "no RUN: textflow eval RUN [OVERLAY ...] [--key value ...]"),
        (["R", "-n"], "-n has no value, needs a whole number"),
        (["R", "--prompt-file", "-n", "3"], "--prompt-file has no value, needs a path"),
        (["R", "--say", "-hello"], "--say has no value, needs a text (one that begins with - as --say=-...)"),
    ):
        with pytest.raises(ValueError) as caught:
            given(*argv)
        assert str(caught.value) == f"{message}; see textflow eval --help"


def test_an_invalid_argument_of_any_verb_is_one_line(fails: Fails) -> None:
    for argv, message in (
        (["sample", "RUN", "--cfg-scle", "3"], "no option --cfg-scle (did you mean --cfg-scale?)"),
        (["sample", "RUN", "--bath_size", "3"], "no option --bath-size (did you mean --batch-size?)"),
        (["sample", "RUN", "--num-sample", "3"], "no option --num-sample (did you mean --num-samples?)"),
        (["eval", "RUN", "--format", "xml"], "--format is 'xml', needs one of table, csv, markdown, latex"),
        (["bench", "foo"], "WHAT is 'foo', needs one of step, train,"),
        (["reproduce", "foo"], "FIGURE is 'foo', needs one of fig2, fig3,"),
        (["convert", "elf"], "no SOURCE, TARGET: textflow convert SYSTEM SOURCE TARGET"),
        (["diagnose", "RUN", "--oracle", "chain"], "either a run or an oracle task, not both"),
        (["diagnose"], "needs a run or an oracle task"),
    ):
        fails(argv, message)


@pytest.mark.parametrize(
    "verb_name",
    ["sample", "eval", "compare", "diagnose", "report", "reproduce", "bench", "convert", "recipes", "league", "fetch"],
)
def test_the_help_of_a_verb_has_its_usage_and_is_complete(verb_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb_name in VERBS
    with pytest.raises(SystemExit) as caught:
        main([verb_name, "--help"])
    message = capsys.readouterr().out
    arguments = {
        "bench": "WHAT ",
        "recipes": "",
        "fetch": "[NAME] ",
        "league": "",
        "reproduce": "FIGURE [RUN ...] ",
        "convert": "SYSTEM SOURCE TARGET ",
    }
    arguments |= {"compare": "RUN [RUN ...] ", "report": "RUN [RUN ...] "}
    form = f"textflow {verb_name} {arguments.get(verb_name, 'RUN [OVERLAY ...] ')}[--key value ...]"
    assert caught.value.code == 0 and message.startswith(f"usage: {form}\n") and "<class" not in message
    assert not re.search(r"--\w*_", message) and ("-n N, --num-samples N" in message) == (verb_name in WITH_NUM_SAMPLES)
    about = " ".join(message.split("\n\n")[1].split())
    assert about.endswith(".") and ("best at how many steps." in about) == (verb_name == "compare")
