"""Where reading starts."""

from __future__ import annotations

import pytest

from sinks.placing import Remark, Start, start_of


@pytest.mark.parametrize(
    ("stored", "low", "high", "start"),
    [
        (5, 0, 10, Start(5)),  # the store decides
        (10, 0, 10, Start(10)),  # all is stored
        (0, 0, 0, Start(0)),
        (None, 3, 10, Start(3, Remark.NOTHING_STORED)),  # an empty store reads all that is kept
        (11, 0, 10, Start(0, Remark.BROKER_FORGOT)),  # the log ends before it: another log
        (2, 3, 10, Start(3, Remark.RETENTION_OVERTOOK)),  # events are gone
    ],
)
def test_start(stored: int | None, low: int, high: int, start: Start):
    assert start_of(stored, low, high) == start
