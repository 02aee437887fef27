"""The command itself: help in a moment, mistakes in a line."""

import importlib
import resource
import subprocess
import sys

import pytest

from textflow.cli import app
from textflow.cli.app import VERBS, main, switched

PROBE = """
import sys
from textflow.cli.app import main
code = main(sys.argv[1:])
heavy = {"torch", "lightning", "transformers", "datasets", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else code)
"""


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["fti"]])
def test_help_answers_in_under_a_second_without_torch(words: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    )  # of the processor: others may be busy
    assert done.returncode == (2 if words == ["fti"] else 0), done.stderr
    assert seconds < 1
    assert (
        words == ["fti"]
        or "textflow" in done.stdout
        or done.stdout.strip() == importlib.import_module("textflow").__version__
    )


def test_the_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb}" in said for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_function_of_its_own_file(verb: str) -> None:
    assert callable(getattr(importlib.import_module(f"textflow.cli.{verb}"), verb))


@pytest.mark.parametrize(
    ("wrong", "meant"), [("fti", "fit"), ("chek", "check"), ("samples", "sample"), ("bnech", "bench")]
)
def test_an_unknown_verb_names_the_nearest(wrong: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([wrong]) == 2
    assert capsys.readouterr().err == f"no command {wrong!r}; did you mean {meant!r}?\n"


def test_an_unknown_verb_far_from_all_points_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xyzzy"]) == 2
    assert "textflow --help" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["sample"], ["sample", "run", "--stesp", "4"], ["sample", "run", "-n", "many"]])
def test_a_wrong_option_is_one_line_that_names_the_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "see textflow sample --help" in capsys.readouterr().err


def test_overlays_follow_a_run() -> None:
    words = ["run", "a.yaml", "b.yaml", "-n", "4"]
    assert app.overlaid(words) == ["run", "--overlays+", "a.yaml", "--overlays+", "b.yaml", "-n", "4"]
    assert app.overlaid(["run"]) == ["run"] and app.overlaid(["--help"]) == ["--help"] and app.overlaid([]) == []


def test_a_users_mistake_is_one_line_and_a_bug_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(error: Exception) -> None:
        def run(verb: str, words: list[str]) -> None:
            raise error

        monkeypatch.setattr(app, "run", run)

    wrong(ValueError("the way out"))
    assert main(["recipes"]) == 2 and capsys.readouterr().err == "textflow recipes: the way out\n"
    monkeypatch.setenv("TEXTFLOW_TRACEBACK", "1")
    with pytest.raises(ValueError):
        main(["recipes"])
    monkeypatch.delenv("TEXTFLOW_TRACEBACK")
    wrong(KeyError("bug"))
    assert main(["recipes"]) == 1, "not a user's mistake"
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "KeyError at test_app.py" in said and "TEXTFLOW_TRACEBACK=1" in said
    monkeypatch.setenv("TEXTFLOW_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["recipes"])
    wrong(KeyboardInterrupt())  # type: ignore[arg-type]
    assert main(["recipes"]) == 130


def test_a_switch_needs_no_word() -> None:
    def verb(quick: bool = False, n: int = 1) -> None: ...

    assert switched(["a", "--quick", "--n", "2"], verb) == ["a", "--quick", "true", "--n", "2"]
    assert switched(["a", "--n", "2", "--quick"], verb) == ["a", "--n", "2", "--quick", "true"]
    assert switched(["--quick", "false"], verb) == ["--quick", "false"]
