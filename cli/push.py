"""textflow push RUN NAME"""

from pathlib import Path


def push(run: Path, name: str, private: bool = False, license: str | None = None) -> None:
    """Upload a run to the Hugging Face Hub. Every command that takes a run then takes it as hf:OWNER/NAME.

    What is uploaded is data: recipe, weights (safetensors), tokenizer, fitted schedules, metrics.csv and a card. The
    recipe names the paths of the text that the run was trained on, but no text is uploaded.

    Args:
        run: folder of a trained run.
        name: name of the repository, OWNER/NAME; it is made if it is new, and otherwise gets a new commit.
        private: make a new repository private.
        license: licence of the weights, for the card, such as apache-2.0; default: a placeholder.
    """
    from textflow.config.shipped import find_run
    from textflow.convert.push import push_run

    print(push_run(find_run(run), name, private, license))
