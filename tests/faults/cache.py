"""A Redis that can be stopped and killed, and started again on its data and its port."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Self

from fleetwatch.local import children
from fleetwatch.local.redis_server import LocalRedis
from tests.services import free_port

if TYPE_CHECKING:
    from pathlib import Path


class CacheServer:
    """As the local stack starts it: with an append-only file."""

    def __init__(self, folder: Path) -> None:
        self._server = LocalRedis(folder, free_port())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(by=signal.SIGTERM)

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        self._server.__enter__()

    def stop(self, *, by: signal.Signals) -> None:
        process = self._server._process
        assert process is not None
        children.stop(process, by=by, timeout=15)
