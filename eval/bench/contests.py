"""The contests by name; a contest's module is imported when it is asked for, since some need more than torch."""

from importlib import import_module

from .benchmark import Contest
from .sizes import Setting

CONTESTS = {
    "step": "Step",
    "train": "Train",
    "pd": "Students",
    "optim": "Update",
    "sample": "Writing",
    "decode": "Reading",
    "data": "Loading",
}
ROOMS = {"decode": "sample"}  # where the module has another name


def named(name: str, setting: Setting) -> Contest:
    """The contest of a name.

    Args:
        name: one of CONTESTS.
        setting: size, device, precision.
    """
    module = import_module(f".{ROOMS.get(name, name)}", __package__)
    return getattr(module, CONTESTS[name])(setting)
