"""Repositories in the cache of the Hugging Face Hub, as its client lays it out: what a test finds without a network."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants


def use_cache(patch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Let the Hub's client and textflow use caches in a folder; returns that of the Hub."""
    hub = folder / "hf"
    patch.setattr(constants, "HF_HUB_CACHE", str(hub))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch.setenv("TEXTFLOW_CACHE", str(folder / "textflow"))
    return hub


def add_commit(hub: Path, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
    """Add a commit of a repository with these files to the cache; returns its hash."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
    for name, content in files.items():
        blob, link = folder / "blobs" / hashlib.sha256(content).hexdigest(), folder / "snapshots" / commit / name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / branch).write_text(commit)
    return commit
