"""The channel that is always there: one line a change on standard output."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TextIO

from alerting import render
from alerting.ports import Delivered, Notice, RefusalReason, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alerting.ports import Outcome, Waiting


class ConsoleNotifier:
    """Writes each change at once, flushed, without colours; as text for people, or as JSON."""

    channel = "console"
    lane = "console"
    group_above: int | None = None

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        self._stream = stream
        self._as_json = as_json

    def compose(self, changes: Sequence[Waiting], now: datetime) -> Notice:  # noqa: D102  # the port says it
        first = changes[0]
        text = render.json_line(first.alert) if self._as_json else render.console_line(first.alert, now)
        return Notice(changes=(first,), text=text)

    async def send(self, notice: Notice) -> Outcome:  # noqa: D102
        try:
            await asyncio.to_thread(self._write, notice.text)  # a full pipe must not stop the other lanes
        except (OSError, ValueError) as error:
            return Refused(reason=RefusalReason.OUTPUT_CLOSED, detail=type(error).__name__)
        return Delivered()

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._stream.flush()
