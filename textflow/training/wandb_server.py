"""The W&B server: its address, the mode of the environment, and whether it answers."""

import netrc
import os
import ssl
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import urlopen

WANDB_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
WANDB_SECONDS = 5.0  # longest wait for an answer of the server


def wandb_mode() -> str:
    """The mode of WANDB_MODE; without one online if a key is configured, offline otherwise."""
    mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if mode not in WANDB_MODES:
        raise ValueError(f"WANDB_MODE is {mode!r}, needs online, offline or disabled")
    return mode


def wandb_url() -> str:
    """Address of the W&B server."""
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"


def is_reachable(url: str, seconds: float = WANDB_SECONDS) -> bool:
    """True if a server answers in time, with any status; through a proxy if the environment names one."""
    answered: list[bool] = []

    def ask() -> None:
        try:
            urlopen(url, timeout=seconds).close()
            answered.append(True)
        except HTTPError:
            answered.append(True)
        except (OSError, ValueError) as error:
            if isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError):
                answered.append(True)  # W&B has its own certificates

    thread = Thread(target=ask, daemon=True)  # a name server may not answer for longer than `timeout`
    thread.start()
    thread.join(seconds)
    return bool(answered)


def has_key() -> bool:
    """True if a W&B key is configured, in WANDB_API_KEY or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(wandb_url()).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
