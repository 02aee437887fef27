"""Recipes and arguments of `textflow distill` in tests."""

from pathlib import Path

STUDENT = """\
# tiny students
rounds: [[4, 2], [2, 2]]
model: {init_args: {objective: {class_path: StepDistillation, init_args: {target: Progressive}}, ema_decay: 0.8}}
run: {save_every: 3, sample_every: 6, wandb: true}
trainer:
  max_steps: 6
  val_check_interval: 3
  callbacks:
    - {class_path: DABI, init_args: {every_n_steps: 3, num_rows: 4, num_draws: 2}}
    - {class_path: CCI, init_args: {every_n_steps: 3, num_rows: 2}}
    - {class_path: Stiffness, init_args: {every_n_steps: 6, num_iterations: 2}}
"""
FLOW = """\
# tiny flow map
rounds: [[4, 1]]
eval_steps: [2, 1]
model:
  init_args:
    net: {init_args: {two_time: true}}
    objective: {class_path: FlowMapDistillation, init_args: {target: MeanFlow}}
    sampler: {class_path: Ancestral, init_args: {noise_correlation: 0.0}}
run: {save_every: 3, sample_every: 6}
trainer: {max_steps: 6, val_check_interval: 3}
"""
DUO = """\
# tiny Duo
data:
  files: FOLDER/text.txt
  tokenizer: {class_path: SentencePiece, init_args: {vocab_size: 320}}
  seq_length: 16
  batch_size: 4
  val_fraction: 0.2
  cache: FOLDER/cache
model:
  class_path: DiscreteDiffusion
  init_args:
    net: {class_path: TokenDiT, init_args: {width: 16, depth: 1, heads: 2, cond_width: 8, dropout: 0.0}}
    objective: {class_path: DuoObjective, init_args: {curriculum_steps: 4}}
    sampler: DuoSampler
    lr_scheduler: {class_path: WarmupLR, init_args: {warmup_steps: 2}}
    ema_decay: 0.9
run: {folder: FOLDER/duo, save_every: 4, sample_every: 8, num_samples: 2, wandb: false}
trainer: {max_steps: 8, val_check_interval: 4, limit_val_batches: 2, accelerator: cpu, precision: 32-true}
"""
DCD = """\
# tiny students of Duo
rounds: [[4, 1], [2, 1]]
model: {init_args: {objective: DiscreteConsistency, ema_decay: 0.8}}
run: {save_every: 3, sample_every: 6}
trainer: {max_steps: 6, val_check_interval: 3}
"""
NO_LOGS = ["--trainer.callbacks", "[]", "--run.wandb", "false"]


def distill_argv(teacher: Path, out: Path, recipe: str = "students") -> list[str]:
    return ["distill", str(teacher.parent / f"{recipe}.yaml"), "--teacher", str(teacher), "--run.folder", str(out)]
