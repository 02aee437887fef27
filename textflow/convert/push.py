"""Upload a run to the Hugging Face Hub, from where its name loads it: hf:OWNER/NAME."""

from pathlib import Path

from textflow import run_folder
from textflow.config.hub import PREFIX, explain_hub_error, list_run_files
from textflow.convert.hf import card


def push_run(run: Path, name: str, private: bool = False, license: str | None = None) -> str:
    """Upload recipe, weights, tokenizer, fitted schedules, logged numbers and a card; returns a one-line summary.

    Args:
        run: run folder; it is loaded once, so that a damaged run is not uploaded.
        name: OWNER/NAME on the Hub, or NAME for an own repository; made if it is new.
        private: whether a new repository is private.
        license: licence of the weights, such as apache-2.0; None writes a placeholder.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import LocalTokenNotFoundError

    name, model = name.removeprefix(PREFIX), run_folder.load(run)
    api, recipe = HfApi(), (run / "recipe.yaml").read_text(encoding="utf-8")
    files = [CommitOperationAdd(file.relative_to(run).as_posix(), str(file)) for file in list_run_files(run)]
    try:
        if get_token() is None:
            raise LocalTokenNotFoundError
        repo = api.create_repo(name, private=private, exist_ok=True).repo_id
        text = card(run, model, f"{PREFIX}{repo}", recipe, license, for_textflow=True)
        files.append(CommitOperationAdd("README.md", text.encode()))
        commit = api.create_commit(repo, files, commit_message="Upload a run of textflow")
    except Exception as error:  # of the Hub's client, or its network library
        raise ValueError(explain_hub_error(error, name)) from error
    return f"{commit.repo_url}: {len(files)} files; textflow sample {PREFIX}{repo}@{commit.oid[:12]}"
