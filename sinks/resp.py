"""Calls of Redis scripts as bytes (RESP, the Redis serialization protocol): an array of bulk strings.

redis-py makes the same bytes, but takes several times as long for an argument, and a call has dozens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sinks.cache_writes import Argument


def packed(sha: str, keys: Sequence[str], arguments: Sequence[Argument]) -> bytes:
    """Return the bytes of EVALSHA with these keys and arguments."""
    whole = [b"EVALSHA", sha.encode(), b"%d" % len(keys), *map(str.encode, keys), *map(_bytes, arguments)]
    return b"*%d\r\n" % len(whole) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in whole])


def _bytes(argument: Argument) -> bytes:
    return argument.encode() if isinstance(argument, str) else repr(argument).encode()
