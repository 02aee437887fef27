"""Runs on the Hugging Face Hub: the files that make one, and how it is fetched by name."""

import os
from pathlib import Path

from textflow.runtime.visible import visible_files

PREFIX = "hf:"
TOKENIZER_FILES = tuple(f"tokenizer/*.{suffix}" for suffix in ("json", "model", "txt", "jinja"))
# What a run on the Hub consists of, all of it data: no pickle, no Python.
RUN_FILES = ("recipe.yaml", "model.safetensors", *TOKENIZER_FILES, "schedules/*.safetensors", "metrics.csv")


def fetch_run(name: str) -> Path:
    """Folder of a run on the Hub. Its files are links into the Hub's cache; what commands write there stays local.

    Args:
        name: hf:OWNER/NAME, or hf:OWNER/NAME@REVISION with a branch, a tag or a commit.
    """
    repo, _, revision = name.removeprefix(PREFIX).partition("@")
    snapshot = download(repo, revision or "main")
    if missing := next((file for file in RUN_FILES[:2] if not (snapshot / file).is_file()), None):
        raise ValueError(f"{PREFIX}{repo} holds no run of textflow: {missing} is missing; `textflow push` uploads one")
    cache = Path(os.environ.get("TEXTFLOW_CACHE") or "~/.cache/textflow").expanduser()
    folder = cache / "hub" / repo.replace("/", "--") / snapshot.name / repo.split("/")[-1]
    for file in list_run_files(snapshot):
        link(folder / file.relative_to(snapshot), file.resolve())
    return folder


def holds_run(name: str) -> bool:
    """True if a repository on the Hub, or its copy in the cache, holds a run of textflow.

    Args:
        name: OWNER/NAME or OWNER/NAME@REVISION.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repo, _, revision = name.partition("@")
    try:
        return bool(hf_hub_download(repo, RUN_FILES[0], revision=revision or "main"))
    except EntryNotFoundError:  # also without a network, if the cache has no copy
        return False
    except Exception as error:  # of the Hub's client, or its network library
        raise ValueError(explain_hub_error(error, repo, revision or "main")) from error


def list_run_files(folder: Path) -> list[Path]:
    """The RUN_FILES of a folder."""
    return [file for pattern in RUN_FILES for file in visible_files(folder, pattern)]


def link(path: Path, target: Path) -> None:
    """Make a path a link to a file, in the place of an older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)


def download(repo: str, revision: str) -> Path:
    """Fetch the files of a run, or find them in the cache; returns the folder of their commit."""
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(RUN_FILES)))
    except Exception as error:  # of the Hub's client, its network library or the disk
        missing = isinstance(error, FileNotFoundError)  # without an answer, also from the cache
        note = f"; the cache {constants.HF_HUB_CACHE} holds no whole copy" if missing else ""
        raise ValueError(explain_hub_error(error, repo, revision) + note) from error


def explain_hub_error(error: Exception, repo: str, revision: str = "main") -> str:
    """One line for an error of the Hub's client, with the way out."""
    from huggingface_hub import constants, errors

    name, login = f"{PREFIX}{repo}", "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.HFValidationError):
        return f"{name} is not the name of a repository; give hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: accept its terms on its page, and {login}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{name} is not on the Hub, or it is private: check the name, or {login}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no revision {revision!r}: give a branch, a tag or a commit, or leave @{revision} out"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"no token for {name}: {login} to one that may write"
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code in (401, 403):
        return f"the Hub refuses {name} (status {error.response.status_code}): {login} to one that may do this"
    if constants.HF_HUB_OFFLINE:
        return f"{name} needs the Hub, and HF_HUB_OFFLINE is set: unset it"
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"no answer from the Hub for {name}: try again with a network ({reason})"
