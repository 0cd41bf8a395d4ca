"""What the server process decides by itself."""

from __future__ import annotations

import logging
import sys

import pytest
from starlette.websockets import WebSocketDisconnected

from dashboard import server


@pytest.mark.parametrize(("error", "is_logged"), [(WebSocketDisconnected("gone"), False), (ValueError("x"), True)])
def test_only_the_stack_trace_of_a_browser_that_left_is_dropped(error, is_logged):
    try:
        raise error
    except type(error):
        record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    assert server._WithoutGoneBrowsers().filter(record) is is_logged
