"""A small recipe with its own random text, which fits in seconds."""

import json
import random
from pathlib import Path

import yaml

CODEC = """\
# tiny codec
model:
  class_path: Autoencoder
  init_args:
    optimizer: {class_path: MuonAdam, init_args: {lr: 0.05, adam_names: [embed]}}
    lr_scheduler: {class_path: WarmupLR, init_args: {warmup_steps: 2}}
run: {save_every: 20, sample_every: 40}
trainer: {max_steps: 40, val_check_interval: 20, limit_val_batches: 2}
"""
TEACHER = """\
# tiny teacher
codec: codec.yaml
data:
  files: FOLDER/text.txt
  tokenizer: {class_path: SentencePiece, init_args: {vocab_size: 320}}
  seq_length: 16
  batch_size: 4
  val_fraction: 0.2
  cache: FOLDER/cache
model:
  class_path: Generator
  init_args:
    codec: {class_path: TransformerCodec, init_args: {dim: 8, width: 16, heads: 2}}
    net: {class_path: ELF, init_args: {width: 16, depth: 1, heads: 2, bottleneck: 8}}
    objective: {class_path: ELFObjective, init_args: {time_schedule: DecodeError}}
    lr_scheduler: {class_path: WarmupLR, init_args: {warmup_steps: 2}}
    ema_decay: 0.9
run: {folder: FOLDER/run, save_every: 4, sample_every: 12, num_samples: 2, wandb: false}
trainer:
  max_steps: 12
  val_check_interval: 4
  limit_val_batches: 2
  log_every_n_steps: 1
  accelerator: cpu
  precision: 32-true
"""
NOISE_LEVELS = {"class_path": "Gumbel", "init_args": {"loc": 1.5, "trainable": True}}
LANGFLOW = {  # parts of a generator for `write_model`
    "codec": {"class_path": "EmbeddingTable", "init_args": {"dim": 16, "trainable": True, "init": "uniform"}},
    "net": {"class_path": "LangFlow", "init_args": {"depth": 1, "heads": 2, "cond_width": 8, "dropout": 0.0}},
    "objective": {"class_path": "LangFlowObjective", "init_args": {"time_schedule": NOISE_LEVELS, "ramp_steps": 2}},
    "path": {"class_path": "VariancePreserving", "init_args": {"t_min": -12.0}},
    "readout": "FromPosterior",
    "token_readout": "FromPosterior",
    "optimizer": {"class_path": "MuonAdam", "init_args": {"lr": 0.02, "adam_names": ["codec.table"]}},
    "ema_decay": 0.9,
}
DECODE_ERROR = {"class_path": "OneHotDecodeError", "init_args": {"vocab_size": 320}}
FLM = {  # as LANGFLOW
    "codec": "OneHot",
    "net": {
        "class_path": "DiT",
        "init_args": {"width": 16, "depth": 1, "heads": 2, "cond_width": 8, "time_schedule": DECODE_ERROR},
    },
    "objective": {"class_path": "FLMObjective", "init_args": {"time_schedule": DECODE_ERROR}},
    "path": {"class_path": "LinearPath", "init_args": {"noise_scale": 1.0, "min_one_minus_t": 0.0, "eps": 1e-5}},
    "readout": "FromPosterior",
    "token_readout": "FromPosterior",
    "ema_decay": 0.9,
}
NO_CODEC = [  # options that give the teacher a codec which needs no fit
    "--codec=null",
    "--model.codec=EmbeddingTable",
    "--model.codec.dim=8",
    "--model.objective.time_schedule=LogitNormal",
]
SOUNDS = [consonant + vowel for consonant in "bdklmnprst" for vowel in "aeiou"]


def random_words(generator: random.Random, count: int) -> list[str]:
    return ["".join(generator.choices(SOUNDS, k=3)) for _ in range(count)]


def write_recipe(folder: Path) -> Path:
    """Write text and recipes into a folder; returns the teacher's recipe."""
    generator = random.Random(0)
    words = random_words(generator, 150)
    paragraphs = [" ".join(generator.choices(words, k=30)) + "." for _ in range(60)]
    (folder / "text.txt").write_text("\n\n".join(paragraphs))
    (folder / "codec.yaml").write_text(CODEC)
    teacher = folder / "teacher.yaml"
    teacher.write_text(TEACHER.replace("FOLDER", str(folder)))
    return teacher


def write_model(folder: Path, parts: dict[str, object], max_steps: int, codec: str | None = None) -> Path:
    """Write text and the recipe of a generator with these parts; returns the recipe.

    Args:
        folder: where to write.
        parts: arguments of the generator.
        max_steps: optimizer steps.
        codec: recipe of its codec; None if it needs no fit.
    """
    path = write_recipe(folder)
    recipe = yaml.safe_load(path.read_text())
    recipe["codec"], recipe["model"]["init_args"] = codec, parts
    recipe["trainer"]["max_steps"] = max_steps
    path.write_text("# tiny\n" + yaml.safe_dump(recipe))
    return path


def pairs(folder: Path) -> Path:
    """Write pairs, whose target is the reversed source, and recipes into a folder; returns the teacher's recipe."""
    teacher, generator = write_recipe(folder), random.Random(1)
    words = random_words(generator, 60)
    for name, count in (("train", 200), ("test", 12)):
        sources = [generator.choices(words, k=generator.randint(2, 4)) for _ in range(count)]
        rows = [{"source": " ".join(source), "target": " ".join(source[::-1])} for source in sources]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = yaml.safe_load(teacher.read_text())
    del recipe["data"]["files"]
    files = {"paths": str(folder / "train.jsonl"), "test_paths": str(folder / "test.jsonl")}
    source = {"class_path": "JsonlPairs", "init_args": files}
    recipe["data"] |= {"source": source, "seq_length": 24, "max_source_length": 12}
    recipe["model"]["init_args"]["prompt_dropout"] = 0.2
    recipe["model"]["init_args"]["objective"]["init_args"]["loss_on_padding"] = True
    teacher.write_text("# tiny pairs\n" + yaml.safe_dump(recipe))
    return teacher
