"""The entry point: fast help, errors in one line, Ctrl-C, no bars of libraries in a log."""

import importlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.user_errors import Fails
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
@pytest.mark.parametrize("argv", [["--help"], [], ["--version"], ["fti"]])
def test_help_takes_under_a_second_and_imports_no_torch(argv: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", PROBE, *argv], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime  # CPU time: the cores may be busy
    assert done.returncode == (2 if argv == ["fti"] else 0), done.stderr
    assert seconds < 1
    version = importlib.import_module("textflow").__version__
    assert argv == ["fti"] or "textflow" in done.stdout or done.stdout.strip() == version


def test_the_help_lists_every_verb_and_each_is_a_function_of_its_own_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    for verb in VERBS:
        assert f"  {verb}" in output and callable(getattr(importlib.import_module(f"textflow.cli.{verb}"), verb))


def test_an_unknown_verb_is_answered_with_the_nearest_or_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, nearest in (("fti", "fit"), ("chek", "check"), ("samples", "sample"), ("bnech", "bench")):
        assert main([wrong]) == 2
        assert capsys.readouterr().err == f"no command {wrong!r}; did you mean {nearest!r}?\n"
    assert main(["xyzzy"]) == 2
    assert "textflow --help" in capsys.readouterr().err


def test_a_wrong_option_is_one_line_that_names_the_help(fails: Fails) -> None:
    for argv in (["sample"], ["sample", "run", "--stesp", "4"], ["sample", "run", "-n", "many"]):
        fails(argv, "see textflow sample --help")


def test_a_users_error_and_a_bug_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(error: Exception) -> None:
        def run(verb: str, arguments: list[str]) -> None:
            raise error

        monkeypatch.setattr(app, "run_verb", run)

    wrong(ValueError("the way out"))
    assert main(["recipes"]) == 2 and capsys.readouterr().err == "textflow recipes: the way out\n"
    monkeypatch.setenv("TEXTFLOW_TRACEBACK", "1")
    with pytest.raises(ValueError):
        main(["recipes"])
    monkeypatch.delenv("TEXTFLOW_TRACEBACK")
    wrong(KeyError("bug\nof a part"))
    assert main(["recipes"]) == 1, "not a user's mistake"
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "KeyError at test_app.py" in message and "TEXTFLOW_TRACEBACK=1" in message
    monkeypatch.setenv("TEXTFLOW_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["recipes"])
    wrong(KeyboardInterrupt())  # type: ignore[arg-type]
    assert main(["recipes"]) == 130


@pytest.mark.integration
def test_a_file_nested_too_deeply_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Fails) -> None:
    (tmp_path / "deep.yaml").write_text(f"data: {'[' * 3000}{']' * 3000}\n")
    (tmp_path / "itself.yaml").write_text("trainer: {callbacks: &a [*a]}\n")
    fails(["fit", str(tmp_path / "deep.yaml")], "nest")  # libyaml's own limit, or Python's
    fails(["fit", str(tmp_path / "itself.yaml")], "nested too deeply, or holds itself")
    monkeypatch.setenv("TEXTFLOW_TRACEBACK", "1")
    with pytest.raises(RecursionError):
        main(["fit", str(tmp_path / "itself.yaml")])


@pytest.mark.integration
def test_ctrl_c_while_a_module_is_imported_ends_without_output(tmp_path: Path) -> None:
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    arguments = [sys.executable, "-c", INTERRUPTED]
    own = os.environ | {"PYTHONPATH": str(tmp_path)}
    restore_default = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
    done = subprocess.run(arguments, capture_output=True, text=True, env=own, preexec_fn=restore_default)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.fixture
def handler() -> Iterator[None]:
    """Restore the handler of SIGINT after a test that changes it."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handler")
def test_ctrl_c_after_the_imports_is_raised_and_the_handler_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(verb: str, argv: list[str]) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            ended.append(verb)

    ended: list[str] = []
    monkeypatch.setattr(app, "run_verb", interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert main(["recipes"]) == 130 and ended == ["recipes"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("handler")
def test_a_handler_that_a_verb_installs_and_an_ignored_ctrl_c_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "run_verb", lambda verb, argv: signal.signal(signal.SIGINT, signal.SIG_IGN) and None)
    assert main(["recipes"]) == 0 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    monkeypatch.setattr(app, "run_verb", lambda verb, argv: signal.raise_signal(signal.SIGINT))
    assert main(["recipes"]) == 0 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("on_terminal", [True, False])
def test_libraries_draw_their_bars_on_a_terminal_only(on_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")
    for name in bars:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    assert main(["recipes"]) == 0
    assert [os.environ.get(name) for name in bars] == [None if on_terminal else "1"] * 3


@pytest.mark.integration
def test_no_bar_of_a_library_is_in_a_log(tmp_path: Path) -> None:
    code = (
        "from textflow.cli.app import main; main(['recipes', '--folder', '.'])\n"
        "import datasets, transformers\n"
        "datasets.Dataset.from_generator(lambda: iter([{'text': 'a'}]), cache_dir='.')\n"
        "assert not transformers.utils.logging.is_progress_bar_enabled()\n"
        "from tqdm.auto import tqdm; list(tqdm(range(9), desc='Generating'))\n"
    )
    unset = {name: value for name, value in os.environ.items() if "DISABLE" not in name}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, env=unset, capture_output=True, encoding="utf-8", check=True)
    assert "Generating" not in done.stderr and "\r" not in done.stderr
