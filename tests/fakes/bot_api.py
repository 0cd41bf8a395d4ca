"""A Bot API server on loopback that is as strict as the original, with faults on demand and a memory.

    with BotApi(chats={42}) as api:
        ...  # settings: telegram_token=api.token, telegram_api_url=api.url
        api.fail_next(3, Fault.ERROR)
        assert [message.text for message in api.sent] == [...]
        api.say(42, "/status")
        api.press(api.sent[0], "ack:1f0c9a")

``python -m tests.fakes.bot_api`` starts one to try the bot by hand. Texts of errors are those of the original. Time
limits of chats are the original's unless told otherwise.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes.bot_html import CannotParseError, visible_text

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "123456:ABC-DEF_ghi-not-a-real-token"
BOT = {"id": 123456, "is_bot": True, "first_name": "fleetwatch", "username": "fleetwatch_bot"}


CHAT_TO_TRY = 42


class Fault(Enum):
    """What can go wrong with a request."""

    ERROR = "500"
    BAD_GATEWAY = "502"
    DROP_BEFORE = "connection closed, nothing done"
    DROP_AFTER = "done, connection closed without an answer"
    FLOOD = "429"


@dataclass(frozen=True)
class Message:
    """A message that the server accepted; ``text`` is what people see, ``markup`` what was sent."""

    chat_id: int
    message_id: int
    text: str
    markup: str
    at: float
    reply_markup: dict[str, Any] | None = None


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818  # an answer of the server
    """An answer with ``ok`` false."""

    code: int
    description: str
    retry_after: int | None = None


@dataclass
class _Chat:
    sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=1000))


class BotApi:
    """The server; use as a context manager. Tests read ``sent``, ``answers`` and ``requests``."""

    def __init__(
        self,
        *,
        chats: set[int],
        token: str = TOKEN,
        chat_seconds: float = 1.0,
        group_per_minute: int = 20,
    ) -> None:
        self.token = token
        self.chats = chats
        self.forbidden: set[int] = set()
        self.migrated: dict[int, int] = {}
        self.sent: list[Message] = []
        self.requests: list[tuple[str, int]] = []
        """Method and HTTP status of every request, in order; 0 for a dropped connection."""
        self.answered_queries: list[str] = []
        self.query_answers: list[str] = []
        """What was shown to who pressed a button, in the order of ``answered_queries``."""
        self.commands: list[dict[str, str]] = []
        self.has_webhook = False
        self.on_sent: Callable[[Message], None] = lambda _message: None
        """Called after a message is accepted, before it is answered."""
        self.on_answered: Callable[[str], None] = lambda _text: None
        """Called with what is shown to who pressed a button."""
        self._chat_seconds = chat_seconds
        self._group_per_minute = group_per_minute
        self._faults: list[tuple[Fault, int, str | None]] = []
        self._chat_states: dict[int, _Chat] = {}
        self._updates: list[dict[str, Any]] = []
        self._given: list[dict[str, Any]] = []
        self._next_update = 1000
        self._allowed: list[str] = []
        self._poller = 0
        self._condition = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()
        self._port = 0

    # --- for tests

    @property
    def url(self) -> str:
        """What goes into ``telegram_api_url``."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.come_up()
        return self

    def __exit__(self, *_error: object) -> None:
        self.go_down()

    def come_up(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def go_down(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self._condition:
            for connection in tuple(self._connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._condition.notify_all()

    def fail_next(self, count: int, fault: Fault, *, retry_after: int = 1, method: str | None = None) -> None:
        """Let the next ``count`` requests fail: those of one method, or any but getUpdates, which comes by itself."""
        self._faults.extend([(fault, retry_after, method)] * count)

    def say(self, chat_id: int, text: str, *, user_id: int | None = None) -> None:
        """Let a person write to the bot: in a private chat the one whose chat it is."""
        user_id = user_id if user_id is not None else chat_id if chat_id > 0 else 7
        message = {
            "message_id": self._next_update,
            "date": int(time.time()),
            "chat": _chat_of(chat_id),
            "from": {"id": user_id, "is_bot": False, "first_name": "Person"},
            "text": text,
        }
        if text.startswith("/"):
            length = len(text.split(maxsplit=1)[0])
            message["entities"] = [{"type": "bot_command", "offset": 0, "length": length}]
        self._update({"message": message})

    def press(self, message: Message, data: str, *, user_id: int | None = None) -> None:
        """Let a person press a button below a message, as it is now; it must have it."""
        message = next(m for m in self.sent if (m.chat_id, m.message_id) == (message.chat_id, message.message_id))
        assert data in buttons(message).values(), f"no such button: {buttons(message)}"
        user_id = user_id if user_id is not None else message.chat_id if message.chat_id > 0 else 7
        self._update(
            {
                "callback_query": {
                    "id": str(self._next_update),
                    "from": {"id": user_id, "is_bot": False, "first_name": "Person"},
                    "chat_instance": "1",
                    "data": data,
                    "message": _message_of(message),
                }
            }
        )

    # --- the protocol

    def answer(self, path: str, parameters: dict[str, Any]) -> Any:
        """Return the result of one request; raises ``Refusal``."""
        token, _, method = path.removeprefix("/bot").partition("/")
        if not path.startswith("/bot") or ":" not in token:
            raise Refusal(404, "Not Found")
        if token != self.token:
            raise Refusal(401, "Unauthorized")
        handler = getattr(self, "_do_" + method.lower(), None)
        if handler is None:
            raise Refusal(404, "Not Found: method not found")
        return handler(parameters)

    def take_fault(self, method: str) -> tuple[Fault, int] | None:
        """Return what is to go wrong with the request that has come."""
        with self._condition:
            for number, (fault, retry_after, wanted) in enumerate(self._faults):
                if method == wanted or (wanted is None and method != "getUpdates"):
                    del self._faults[number]
                    return fault, retry_after
        return None

    def _do_getme(self, _parameters: dict[str, Any]) -> Any:
        return BOT | {
            "can_join_groups": True,
            "can_read_all_group_messages": False,
            "supports_inline_queries": False,
        }

    def _do_deletewebhook(self, _parameters: dict[str, Any]) -> Any:
        self.has_webhook = False
        return True

    def _do_setmycommands(self, parameters: dict[str, Any]) -> Any:
        if "commands" not in parameters:
            raise Refusal(400, 'Bad Request: parameter "commands" is required')
        commands = _json_of(parameters["commands"], "commands")
        if not isinstance(commands, list) or len(commands) > 100:
            raise Refusal(400, "Bad Request: BOT_COMMANDS_TOO_MUCH")
        for command in commands:
            if not re.fullmatch(r"[a-z0-9_]{1,32}", str(command.get("command", ""))):
                raise Refusal(400, "Bad Request: BOT_COMMAND_INVALID")
            if not 1 <= len(str(command.get("description", ""))) <= 256:
                raise Refusal(400, "Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
        self.commands = commands
        return True

    def _do_sendmessage(self, parameters: dict[str, Any]) -> Any:
        with self._condition:
            chat_id = self._chat_id(parameters)
            text = self._text(parameters)
            markup = _reply_markup(parameters)
            self._pace(chat_id)
            message = Message(
                chat_id=chat_id,
                message_id=len(self.sent) + 1,
                text=text,
                markup=parameters["text"],
                at=time.monotonic(),
                reply_markup=markup,
            )
            self.sent.append(message)
        self.on_sent(message)
        return _message_of(message)

    def _do_editmessagetext(self, parameters: dict[str, Any]) -> Any:
        with self._condition:
            chat_id = self._chat_id(parameters)
            changes = {"text": self._text(parameters), "markup": parameters["text"]}
            return self._edit(chat_id, parameters, changes)

    def _do_editmessagereplymarkup(self, parameters: dict[str, Any]) -> Any:
        with self._condition:
            return self._edit(self._chat_id(parameters), parameters, {})

    def _edit(self, chat_id: int, parameters: dict[str, Any], changes: dict[str, Any]) -> Any:
        number = _integer(parameters.get("message_id", "")) or 0
        old = next((m for m in self.sent if (m.chat_id, m.message_id) == (chat_id, number)), None)
        if old is None:
            raise Refusal(400, "Bad Request: message to edit not found")
        new = replace(old, **changes, reply_markup=_reply_markup(parameters))
        if new == old:
            raise Refusal(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup "
                "are exactly the same as a current content and reply markup of the message",
            )
        self.sent[self.sent.index(old)] = new
        return _message_of(new)

    def _do_answercallbackquery(self, parameters: dict[str, Any]) -> Any:
        query = str(parameters.get("callback_query_id", ""))
        known = {update["callback_query"]["id"] for update in self._given if "callback_query" in update}
        if query not in known or query in self.answered_queries:
            raise Refusal(400, "Bad Request: query is too old and response timeout expired or query ID is invalid")
        text = str(parameters.get("text", ""))
        if len(text) > 200:
            raise Refusal(400, "Bad Request: MESSAGE_TOO_LONG")
        self.query_answers.append(text)
        self.on_answered(text)
        self.answered_queries.append(query)
        return True

    def _do_getupdates(self, parameters: dict[str, Any]) -> Any:
        if self.has_webhook:
            raise Refusal(
                409,
                "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the "
                "webhook first",
            )
        offset = _integer(parameters.get("offset", "0")) or 0
        limit = min(100, max(1, _integer(parameters.get("limit", "100")) or 100))
        deadline = time.monotonic() + min(50.0, float(parameters.get("timeout", 0) or 0))
        with self._condition:
            if parameters.get("allowed_updates"):
                self._allowed = _json_of(parameters["allowed_updates"], "allowed_updates")
            if offset < 0:
                offset = self._updates[offset:][0]["update_id"] if self._updates else 0
            self._poller += 1
            me = self._poller
            self._condition.notify_all()
            self._updates = [update for update in self._updates if update["update_id"] >= offset]
            while not self._updates and time.monotonic() < deadline and self._server is not None:
                self._condition.wait(min(0.2, max(0.0, deadline - time.monotonic())))
                if self._poller != me:
                    raise Refusal(
                        409,
                        "Conflict: terminated by other getUpdates request; make sure that only one bot "
                        "instance is running",
                    )
            return self._updates[:limit]

    def _update(self, content: dict[str, Any]) -> None:
        with self._condition:
            if self._allowed and not set(content) & set(self._allowed):
                return
            update = {"update_id": self._next_update} | content
            self._next_update += 1
            self._updates.append(update)
            self._given.append(update)
            self._condition.notify_all()

    def _chat_id(self, parameters: dict[str, Any]) -> int:
        if not parameters.get("chat_id"):
            raise Refusal(400, "Bad Request: chat_id is empty")
        chat_id = _integer(parameters["chat_id"])
        if chat_id in self.migrated:
            raise Refusal(400, f"Bad Request: group chat was upgraded to a supergroup chat:{self.migrated[chat_id]}")
        if chat_id is None or chat_id not in self.chats:
            raise Refusal(400, "Bad Request: chat not found")
        if chat_id in self.forbidden:
            raise Refusal(403, "Forbidden: bot was blocked by the user")
        return chat_id

    @staticmethod
    def _text(parameters: dict[str, Any]) -> str:
        text = str(parameters.get("text", ""))
        if str(parameters.get("parse_mode", "")).upper() == "HTML":
            try:
                text = visible_text(text)
            except CannotParseError as error:
                raise Refusal(400, f"Bad Request: can't parse entities: {error}") from None
        text = text.strip()
        if not text:
            raise Refusal(400, "Bad Request: message text is empty")
        if len(text.encode("utf-16-le")) // 2 > 4096:
            raise Refusal(400, "Bad Request: message is too long")
        return text

    def _pace(self, chat_id: int) -> None:
        now = time.monotonic()
        sent_at = self._chat_states.setdefault(chat_id, _Chat()).sent_at
        wait = sent_at[-1] + self._chat_seconds - now if sent_at else 0.0
        if chat_id < 0 and len(sent_at) >= self._group_per_minute:
            wait = max(wait, sent_at[-self._group_per_minute] + 60 - now)
        if wait > 0:
            raise _flood(max(1, round(wait + 0.5)))
        sent_at.append(now)


def buttons(message: Message) -> dict[str, str]:
    """Return the buttons below a message: what stands on each, and what it carries."""
    rows = (message.reply_markup or {}).get("inline_keyboard", [])
    return {button["text"]: button["callback_data"] for row in rows for button in row}


def _json_of(raw: Any, name: str) -> Any:
    try:
        return json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        raise Refusal(400, f"Bad Request: can't parse {name} JSON object") from None


def _raise_fault(fault: Fault | None, retry_after: int) -> None:
    if fault is Fault.ERROR:
        raise Refusal(500, "Internal Server Error")
    if fault is Fault.BAD_GATEWAY:
        raise Refusal(502, "Bad Gateway")
    if fault is Fault.FLOOD:
        raise _flood(retry_after)


def _flood(seconds: int) -> Refusal:
    return Refusal(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)


def _integer(text: object) -> int | None:
    try:
        return int(str(text))
    except ValueError:
        return None


def _chat_of(chat_id: int) -> dict[str, Any]:
    return (
        {"id": chat_id, "type": "private", "first_name": "Person"}
        if chat_id > 0
        else {
            "id": chat_id,
            "type": "supergroup",
            "title": "Operations",
        }
    )


def _message_of(message: Message) -> dict[str, Any]:
    content: dict[str, Any] = {
        "message_id": message.message_id,
        "date": int(time.time()),
        "chat": _chat_of(message.chat_id),
        "from": BOT,
        "text": message.text,
    }
    if message.reply_markup:
        content["reply_markup"] = message.reply_markup
    return content


def _reply_markup(parameters: dict[str, Any]) -> dict[str, Any] | None:
    raw = parameters.get("reply_markup")
    if not raw:
        return None
    try:
        markup: dict[str, Any] = json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        raise Refusal(400, "Bad Request: can't parse reply keyboard markup JSON object") from None
    for row in markup.get("inline_keyboard", []):
        for button in row:
            if not button.get("text"):
                raise Refusal(400, 'Bad Request: can\'t parse inline keyboard button: Field "text" must be filled')
            if "callback_data" in button and not 1 <= len(str(button["callback_data"]).encode()) <= 64:
                raise Refusal(400, "Bad Request: BUTTON_DATA_INVALID")
    return markup


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


def _handler(api: BotApi) -> type[BaseHTTPRequestHandler]:  # noqa: C901  # the library wants a class
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            api._connections.add(self.connection)

        def finish(self) -> None:
            api._connections.discard(self.connection)
            super().finish()

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parameters: dict[str, Any] = dict(parse_qsl(address.query, keep_blank_values=True))
            kind = self.headers.get("Content-Type", "").split(";")[0]
            if kind == "application/json":
                parameters |= json.loads(body or b"{}")
            elif kind == "application/x-www-form-urlencoded":
                parameters |= dict(parse_qsl(body.decode(), keep_blank_values=True))
            path = unquote(address.path)
            method = path.rpartition("/")[2]
            fault, retry_after = api.take_fault(method) or (None, 0)
            if fault is Fault.DROP_BEFORE:
                self._drop(method)
                return
            try:
                _raise_fault(fault, retry_after)
                answer: dict[str, Any] = {"ok": True, "result": api.answer(path, parameters)}
                code = 200
            except Refusal as refusal:
                code = refusal.code
                answer = {"ok": False, "error_code": code, "description": refusal.description}
                if refusal.retry_after is not None:
                    answer["parameters"] = {"retry_after": refusal.retry_after}
                elif "upgraded to a supergroup" in refusal.description:
                    answer["description"], _, moved = refusal.description.rpartition(":")
                    answer["parameters"] = {"migrate_to_chat_id": int(moved)}
            if fault is Fault.DROP_AFTER:
                self._drop(method)
                return
            api.requests.append((method, code))
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _drop(self, method: str) -> None:
            api.requests.append((method, 0))
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler


def main() -> None:
    """Serve until the input ends: prints what the bot sends, and says to it what is typed."""
    with BotApi(chats={CHAT_TO_TRY}) as api:
        print(  # noqa: T201
            f"A Telegram of your own, on this machine. In another terminal:\n\n"
            f"    export FLEETWATCH_TELEGRAM_TOKEN={api.token}\n"
            f"    export FLEETWATCH_TELEGRAM_CHAT_IDS='[{CHAT_TO_TRY}]'\n"
            f"    export FLEETWATCH_TELEGRAM_API_URL={api.url}\n"
            f"    make demo\n\n"
            "Messages appear here. Write /status, /alerts or /help; a number presses that button; Ctrl-D ends it.\n",
            flush=True,
        )
        offered: list[tuple[Message, str]] = []

        def show(message: Message) -> None:
            print(f"--- {time.strftime('%H:%M:%S')}\n{message.text}")  # noqa: T201
            for label, data in buttons(message).items():
                offered.append((message, data))
                print(f"    [{len(offered)}] {label}")  # noqa: T201
            print(flush=True)  # noqa: T201

        api.on_sent = show
        api.on_answered = lambda text: print(f"    ({text})", flush=True) if text else None  # noqa: T201
        with contextlib.suppress(KeyboardInterrupt):
            for line in sys.stdin:
                text = line.strip()
                if text.isdigit() and 1 <= int(text) <= len(offered):
                    with contextlib.suppress(AssertionError):  # the button has gone meanwhile
                        api.press(*offered[int(text) - 1])
                elif text:
                    api.say(CHAT_TO_TRY, text)


if __name__ == "__main__":
    main()
