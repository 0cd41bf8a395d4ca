"""What a batch app takes and refuses, without a broker."""

from __future__ import annotations

import pytest
from faust.exceptions import ImproperlyConfigured

from streams.transport import BatchApp, BatchConsumer, RawSchema


def test_waiting_for_empty_streams_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="stream_wait_empty would hang"):
        BatchApp("app", hot_topics={"hot"}, stream_wait_empty=True)


def test_it_does_not_wait_for_empty_streams_by_default() -> None:
    app = BatchApp("app", hot_topics={"hot"})
    assert app.conf.stream_wait_empty is False
    assert app.hot_topics == {"hot"}
    assert app.transport.Consumer is BatchConsumer


def test_keys_and_values_are_left_as_they_are() -> None:
    class Message:
        key, value = b"key", object()

    assert RawSchema().loads_key(None, Message) == b"key"
    assert RawSchema().loads_value(None, Message) is Message.value
