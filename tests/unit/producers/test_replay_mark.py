from __future__ import annotations

import pytest

from producers.replay_recording import HEADER, Mark


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"abc:5:-70", Mark("abc", 5, -70)),
        (b"abc:5:70", Mark("abc", 5, 70)),
        (b"abc:5:--70", None),
        (b"abc:5:-", None),
        (b"abc:-5:0", None),
        (b"abc:5", None),
        (b"\xff\xff", None),
        (b"", None),
        (None, None),
    ],
)
def test_only_a_whole_mark_is_one(value: bytes | None, expected: Mark | None) -> None:
    """Others may write a header of the same name."""
    assert Mark.of([("other", b"x"), (HEADER, value)]) == expected
