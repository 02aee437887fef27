"""The command itself: help in a moment, mistakes in a line."""

import importlib
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from textflow.cli import app
from textflow.cli.app import VERBS, main

PROBE = """
import sys
from textflow.cli.app import main
code = main(sys.argv[1:])
heavy = {"torch", "lightning", "transformers", "datasets", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else code)
"""
SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):
        pass
except BaseException:
    pass
raise AttributeError("half imported")
"""
INTERRUPTED = """
import sys
from textflow.cli import app
app.run_verb = lambda verb, words: __import__("swallows")
sys.exit(app.main(["recipes"]))
"""


@pytest.mark.integration
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


def test_a_users_mistake_is_one_line_and_a_bug_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(error: Exception) -> None:
        def run(verb: str, words: list[str]) -> None:
            raise error

        monkeypatch.setattr(app, "run_verb", run)

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


def test_what_is_nested_too_deeply_is_a_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "deep.yaml").write_text(f"data: {'[' * 3000}{']' * 3000}\n")
    (tmp_path / "itself.yaml").write_text("trainer: {callbacks: &a [*a]}\n")
    for name in ("deep", "itself"):
        assert main(["fit", str(tmp_path / f"{name}.yaml")]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "nested too deeply, or holds itself" in said
    monkeypatch.setenv("TEXTFLOW_TRACEBACK", "1")
    with pytest.raises(RecursionError):
        main(["fit", str(tmp_path / "deep.yaml")])


@pytest.mark.integration
def test_ctrl_c_while_a_module_is_imported_ends_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    words = [sys.executable, "-c", INTERRUPTED]
    own = os.environ | {"PYTHONPATH": str(tmp_path)}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
    done = subprocess.run(words, capture_output=True, text=True, env=own, preexec_fn=heard)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_after_the_imports_is_raised_and_the_handler_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(verb: str, words: list[str]) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            ended.append(verb)

    ended: list[str] = []
    monkeypatch.setattr(app, "run_verb", pressed)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["recipes"]) == 130 and ended == ["recipes"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_ctrl_c_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(verb: str, words: list[str]) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(app, "run_verb", pressed)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["recipes"]) == 0 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_a_verb_installs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(app, "run_verb", lambda verb, words: signal.signal(signal.SIGINT, signal.SIG_IGN) and None)
    try:
        assert main(["recipes"]) == 0 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
