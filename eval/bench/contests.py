"""The contests by name."""

from .contest import Contest
from .data import Loading
from .optim import Update
from .pd import Students
from .sample import Reading, Writing
from .step import Step
from .train import Train

CONTESTS: dict[str, type[Contest]] = {
    "step": Step,
    "train": Train,
    "pd": Students,
    "optim": Update,
    "sample": Writing,
    "decode": Reading,
    "data": Loading,
}
