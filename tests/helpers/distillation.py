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
NO_LOGS = ["--trainer.callbacks", "[]", "--run.wandb", "false"]


def distill_argv(teacher: Path, out: Path, recipe: str = "students") -> list[str]:
    return ["distill", str(teacher.parent / f"{recipe}.yaml"), "--teacher", str(teacher), "--run.folder", str(out)]
