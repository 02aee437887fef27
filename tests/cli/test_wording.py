"""What follows a verb: written in several ways, refused in a line that says what is needed."""

import re
from pathlib import Path
from typing import Literal

import pytest

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

WITH_NUM_SAMPLES = ("sample", "eval", "diagnose", "reproduce")  # they take -n N


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


def given(*words: str) -> tuple[Path, int | None, float, str | None, bool]:
    return run_command("eval", list(words), verb)


def test_overlays_follow_a_run() -> None:
    words = ["run", "a.yaml", "b.yaml", "-n", "4"]
    assert expand_overlays(words) == ["run", "--overlays+", "a.yaml", "--overlays+", "b.yaml", "-n", "4"]
    assert (
        expand_overlays(["run"]) == ["run"] and expand_overlays(["--help"]) == ["--help"] and expand_overlays([]) == []
    )


def test_a_switch_needs_no_word() -> None:
    def verb(quick: bool = False, n: int = 1) -> None: ...

    assert expand_flags(["a", "--quick", "--n", "2"], verb) == ["a", "--quick", "true", "--n", "2"]
    assert expand_flags(["a", "--n", "2", "--quick"], verb) == ["a", "--n", "2", "--quick", "true"]
    assert expand_flags(["--quick", "false"], verb) == ["--quick", "false"]


def test_options_have_short_and_dashed_forms_and_numbers_stay() -> None:
    words = ["-n", "-n=4", "--prompt-file", "--prompt-file=a-b", "-h", "-1", "-12", "-", "--"]
    said = ["--n", "--n=4", "--prompt_file", "--prompt_file=a-b", "-h", "-1", "-12", "-", "--"]
    assert [to_underscores(word) for word in words] == said


def test_a_verb_that_reads_recipes_takes_both_forms_and_leaves_keys() -> None:
    words = ["a-b.yaml", "--eval-steps", "[8,4]", "--print-config", "--data.source.a-b", "-x", "--teacher=a-b"]
    taken = ["a-b.yaml", "--eval_steps", "[8,4]", "--print_config", "--data.source.a-b", "-x", "--teacher=a-b"]
    assert normalize_recipe_argv(words) == normalize_recipe_argv(taken) == taken


def test_a_negative_number_belongs_to_its_option() -> None:
    assert join_negative_numbers(["X", "--seed", "-1", "--gamma", "-.5"]) == ["X", "--seed=-1", "--gamma=-.5"]
    assert join_negative_numbers(["--n", "4", "-1"]) == ["--n", "4", "-1"] and join_negative_numbers(
        ["--n=4", "-1"]
    ) == ["--n=4", "-1"]
    assert join_negative_numbers(["--gamma", "-inf", "--out", "-name"]) == ["--gamma=-inf", "--out", "-name"]
    assert normalize_argv("sample", ["RUN", "-n", "-3"], verb) == ["--run", "RUN", "--n=-3"]


def test_every_form_of_a_number_reaches_the_verb() -> None:
    for number in ("-1", "-3", "-12", "7"):
        assert (
            given("R", "-n", number)[1] == given("R", f"-n={number}")[1] == given("R", "--n", number)[1] == int(number)
        )
        assert given("R", "--num-samples", number)[1] == given("R", f"--num_samples={number}")[1] == int(number)
    for number in ("-5", "-.5", "-1e3", "2"):
        assert given("R", "--gamma", number)[2] == float(number)
    assert given("R", "--quick", "--say", "-1") == (Path("R"), None, 1.5, "-1", True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["R", "-n", "1.5"], "-n is '1.5', needs a whole number"),
        (["R", "-n", "1e3"], "-n is '1e3', needs a whole number"),
        (["R", "-n", ""], "-n is '', needs a whole number"),
        (["R", "-n", "a\nb"], "-n is 'a b', needs a whole number"),
        (["R", "--gamma", "abc"], "--gamma is 'abc', needs a number"),
        (["R", "--quick", "3"], "--quick is '3', needs one of true, false"),
        (["R", "--sampler", "odee"], "--sampler is 'odee', needs one of ode, heun (did you mean ode?)"),
        (["R", "--sampler", "xml"], "--sampler is 'xml', needs one of ode, heun"),
        (
            ["R", "--compile", "graph"],
            "--compile is 'graph', needs one of true, false, graphs (did you mean graphs?)",
        ),
        (["R", "--gama", "3"], "no option --gama (did you mean --gamma?)"),
        (["R", "--gama=3"], "no option --gama (did you mean --gamma?)"),
        (["R", "--prompt-fil", "3", "--xyzzy"], "no option --xyzzy"),
        (["R", "-n", "3", "Z"], "unexpected argument 'Z': textflow eval RUN [OVERLAY ...] [--key value ...]"),
        (["-n", "3"], "no RUN: textflow eval RUN [OVERLAY ...] [--key value ...]"),
        (["R", "-n"], "-n has no value, needs a whole number"),
        (["R", "--prompt-file", "-n", "3"], "--prompt-file has no value, needs a path"),
        (["R", "--say", "-hello"], "--say has no value, needs a text (one that begins with - as --say=-...)"),
    ],
)
def test_a_refused_word_is_one_line_with_what_is_needed(words: list[str], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        given(*words)
    assert str(caught.value) == f"{said}; see textflow eval --help"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "RUN", "-n", "1.5"], "-n is '1.5', needs a whole number"),
        (["sample", "RUN", "--sampler", "odee"], "(did you mean ode?)"),
        (["sample", "RUN", "--cfg-scle", "3"], "no option --cfg-scle (did you mean --cfg-scale?)"),
        (["sample", "RUN", "--bath_size", "3"], "no option --bath-size (did you mean --batch-size?)"),
        (["sample", "RUN", "--num-sample", "3"], "no option --num-sample (did you mean --num-samples?)"),
        (["eval", "RUN", "--format", "xml"], "--format is 'xml', needs one of table, csv, markdown, latex"),
        (["bench", "foo"], "WHAT is 'foo', needs one of step, train,"),
        (["reproduce", "foo"], "FIGURE is 'foo', needs one of fig2, fig3,"),
        (["convert", "elf"], "no SOURCE, TARGET: textflow convert SYSTEM SOURCE TARGET"),
        (["diagnose", "RUN", "--oracle", "chan"], "(did you mean chain?)"),
        (["diagnose", "RUN", "--oracle", "chain"], "either a run or an oracle task, not both"),
        (["diagnose"], "needs a run or an oracle task"),
    ],
)
def test_a_mistake_in_any_verb_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "word", ["sample", "eval", "compare", "diagnose", "report", "reproduce", "bench", "convert", "recipes"]
)
def test_the_help_of_a_verb_begins_with_its_form_and_is_whole(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert word in VERBS
    with pytest.raises(SystemExit) as caught:
        main([word, "--help"])
    said = capsys.readouterr().out
    places = {
        "compare": "RUN [RUN ...]",
        "report": "RUN [RUN ...]",
        "bench": "WHAT",
        "recipes": "",
        "reproduce": "FIGURE",
    }
    places |= {"convert": "SYSTEM SOURCE TARGET"}
    form = " ".join(["textflow", word, *filter(None, [places.get(word, "RUN [OVERLAY ...]")]), "[--key value ...]"])
    assert caught.value.code == 0 and said.startswith(f"usage: {form}\n") and "<class" not in said
    assert not re.search(r"--\w*_", said) and ("-n N, --num-samples N" in said) == (word in WITH_NUM_SAMPLES)
    about = " ".join(said.split("\n\n")[1].split())
    assert about.endswith(".") and ("best at how many steps." in about) == (word == "compare")
