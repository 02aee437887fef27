"""textflow diagnose hf:NAME | image:NAME: measures of models that textflow did not train."""

from pathlib import Path
from shlex import quote

from .measures import parse_measures, print_measures
from .options import resolve_device

DESCRIPTIONS = {
    "likelihood": "likelihood: nats per token of the texts, each token given those before it",
    "cci": "CCI [ours]: token pairs where one was drawn given the other, when k tokens are drawn at once",
    "sharpness": "sharpness [ours]: flips of the readout by errors of the final hidden state and random ones as long",
    "dependence": "same-step dependence: nats lost when the k tokens of a step are drawn independently",
}
IMAGE_DESCRIPTIONS = {
    "dabi": "DABI [ours]: squared error of the image by the empirical posterior's residual and random errors as long",
}
PREFIXES = ("hf:", "image:")
LENGTH = 64  # tokens of a text, at most


def is_external(run: Path, data: str | list[str] | None) -> bool:
    """True for a model that textflow did not train: image:NAME, hf:FOLDER without a recipe, or hf:NAME with texts and
    without a run of textflow on the Hub."""
    prefix, _, name = str(run).partition(":")
    if not str(run).startswith(PREFIXES) or prefix == "image" or not name:
        return str(run).startswith(PREFIXES)
    from textflow.config.hub import holds_run

    if Path(name).is_dir():
        return not Path(name, "recipe.yaml").is_file()
    return data is not None and not holds_run(name)


def refuse_overlays(run: Path, overlays: list[str]) -> None:
    """Raise a ValueError for overlays, which change runs of textflow alone."""
    if overlays:
        raise ValueError(f"diagnose {run} got the overlay {overlays[0]}, which changes a run of textflow; leave it out")


def diagnose_external(
    run: str, data: str | list[str] | None, measures: str | None, n: int, seed: int, out: Path | None, device: str
) -> None:
    """Measure a model that textflow did not train, print a table per measure and write diagnose.json.

    Args:
        run: hf: or image:, and the model's Hub name or folder.
        data: one file of texts, as for `textflow eval FILE`; or a folder of images.
        measures: names separated by commas; default: all that apply.
        n: number of texts or images.
        seed: random seed.
        out: folder for diagnose.json; default: checkpoints/diagnostics/NAME.
        device: cpu, cuda, mps or auto.
    """
    prefix, _, name = run.partition(":")
    files = [data] if isinstance(data, str) else data or []
    if not name or len(files) != 1:
        found = f"{len(files)} files of data" if name else "no name"
        model, kind = quote(f"{prefix}:{name or 'NAME'}"), "FILE" if prefix == "hf" else "FOLDER"
        example = f"textflow diagnose {model} --data {kind}"
        raise ValueError(f"diagnose {run} got {found}; it needs one: {example}")
    diagnose = diagnose_language_model if prefix == "hf" else diagnose_image_decoder
    diagnose(name, Path(files[0]), measures, n, seed, out or Path("checkpoints/diagnostics") / Path(name).name, device)


def diagnose_language_model(
    name: str, file: Path, measures: str | None, n: int, seed: int, folder: Path, device: str
) -> None:
    """Measure a language model of transformers on texts; the arguments are those of `diagnose_external`."""
    from textflow.config.trust import is_trusted
    from textflow.eval.external import MEASURES, ExternalCase
    from textflow.eval.text_file import read_texts
    from textflow.external.language_model import load_language_model

    names = parse_measures(measures, DESCRIPTIONS)
    texts = [text for text in read_texts(file).texts if text.strip()][:n]
    model = load_language_model(name, resolve_device(device), is_trusted(name))
    if model.kind == "masked" and measures is None:
        names.remove("likelihood")
    elif model.kind == "masked" and "likelihood" in names:
        raise ValueError(f"{name} is a masked model, which gives a text no likelihood; leave the measure out")
    case = ExternalCase(model, [ids for ids in model.encode(texts, LENGTH) if len(ids) > 1], seed)
    if not case.texts:
        raise ValueError(f"no text of {file} has two tokens; diagnose needs longer ones")
    facts = {"model": name, "kind": model.kind, "data": str(file), "n": len(case.texts), "seed": seed}
    print_measures(names, DESCRIPTIONS, lambda measure: MEASURES[measure](case), facts, folder)
    print(f"Written: {folder}/diagnose.json")


def diagnose_image_decoder(
    name: str, data: Path, measures: str | None, n: int, seed: int, folder: Path, device: str
) -> None:
    """Measure an autoencoder of diffusers on images; the arguments are those of `diagnose_external`."""
    from textflow.eval.external import image_rows
    from textflow.external.image_decoder import image_size, load_image_decoder, read_images

    names = parse_measures(measures, IMAGE_DESCRIPTIONS)
    decoder = load_image_decoder(name, resolve_device(device))
    images = read_images(data, image_size(decoder), n)
    if len(images) < 2:
        raise ValueError(f"{data} holds one image, and the residual needs others for its bank; give more")
    facts = {"model": name, "kind": "image", "data": str(data), "n": len(images), "seed": seed}
    print_measures(names, IMAGE_DESCRIPTIONS, lambda _: image_rows(decoder, images, seed), facts, folder)
    print(f"Written: {folder}/diagnose.json")
