"""Whether the hub of checkpoints can be reached, known before anything waits for it.

Without a network huggingface_hub asks for every file again and again, for 23 seconds where that was
measured (version 2.4), also where the file is in its cache.
"""

import contextlib
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from huggingface_hub import constants

SECONDS = 5.0
"""How long an answer to a first call may take: our choice."""


def is_reachable() -> bool:
    """Say whether the hub's machine answers, or whether only asking would tell."""
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    scheme, host = address.scheme or "https", address.hostname
    if host is None or _goes_through_proxy(scheme, host):
        return True
    try:
        port = address.port or (80 if scheme == "http" else 443)
        socket.create_connection((host, port), timeout=SECONDS).close()
    except (OSError, ValueError):
        return False
    return True


def _goes_through_proxy(scheme: str, host: str) -> bool:
    proxies = urllib.request.getproxies()
    named = scheme in proxies or "all" in proxies or bool(os.environ.get("ALL_PROXY"))
    return named and not urllib.request.proxy_bypass(host)


@contextlib.contextmanager
def asked_only_if_reachable(name: str) -> Iterator[None]:
    """Read a checkpoint from the cache at once where the hub cannot be reached.

    Args:
        name: A local folder, for which no hub is needed, or a checkpoint of the hub.
    """
    if Path(name).is_dir() or constants.HF_HUB_OFFLINE or is_reachable():
        yield
        return
    with mock.patch.object(constants, "HF_HUB_OFFLINE", True):
        yield
