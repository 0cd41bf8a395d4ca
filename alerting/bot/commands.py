"""What a person wrote, as a command. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

from alerting.muting import Scope, Target

LONGEST_MUTE: Final = timedelta(days=7)
_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,6})(s|min|m|h|d)", re.IGNORECASE)
_SCOPES: Final = {"rule": Scope.RULE, "device": Scope.DEVICE}

USAGE: Final = {
    "status": "/status",
    "history": "/history CAMERA",
    "alerts": "/alerts",
    "mute": "/mute [rule NAME | device NAME | all] DURATION",
    "unmute": "/unmute [rule NAME | device NAME | all]",
    "help": "/help",
}
"""How each command is written, in the order of the list."""


class Question(Enum):
    """Commands without anything more to say."""

    START = "start"
    HELP = "help"
    STATUS = "status"
    ALERTS = "alerts"


@dataclass(frozen=True, slots=True)
class AskHistory:
    """``/history``: of a camera, or which cameras there are."""

    camera: str = ""


@dataclass(frozen=True, slots=True)
class DoMute:
    """``/mute``."""

    target: Target
    duration: timedelta


@dataclass(frozen=True, slots=True)
class DoUnmute:
    """``/unmute``: one target, or all that is muted."""

    target: Target | None = None


class Wrong(Enum):
    """Why a command cannot be followed."""

    UNKNOWN = "UNKNOWN"
    USAGE = "USAGE"
    DURATION = "DURATION"


@dataclass(frozen=True, slots=True)
class Misunderstood:
    """A command that cannot be followed; ``said`` is the word that is wrong, or how the command is written."""

    why: Wrong
    said: str


Command = Question | AskHistory | DoMute | DoUnmute | Misunderstood


def command_of(text: str, bot_name: str) -> Command | None:
    """Read a message; None when it is no command, or one for another bot (``/status@other_bot``)."""
    words = text.split()
    if not words or not words[0].startswith("/") or len(words[0]) < 2:
        return None
    name, at, addressee = words[0][1:].partition("@")
    if at and addressee.lower() != bot_name.lower():
        return None
    return _command(name.lower(), words[1:], words[0])


def duration_of(word: str) -> timedelta | None:
    """Read 45s, 30m, 2h or 1d; None when it is none of these, nothing at all, or longer than ``LONGEST_MUTE``."""
    found = _DURATION.fullmatch(word)
    if found is None:
        return None
    duration = timedelta(seconds=int(found[1]) * _UNITS[found[2].lower()])
    return duration if timedelta(0) < duration <= LONGEST_MUTE else None


def _command(name: str, words: list[str], said: str) -> Command:
    match name:
        case "start" | "help" | "status" | "alerts":
            return Question(name)
        case "history":
            return AskHistory(" ".join(words))
        case "mute":
            return _mute(words)
        case "unmute":
            if not words or words == ["all"]:
                return DoUnmute()
            target = _target(words)
            return Misunderstood(Wrong.USAGE, USAGE["unmute"]) if target is None else DoUnmute(target)
    return Misunderstood(Wrong.UNKNOWN, said)


def _mute(words: list[str]) -> Command:
    if not words:
        return Misunderstood(Wrong.USAGE, USAGE["mute"])
    *named, last = words
    target = Target(Scope.ALL) if named in ([], ["all"]) else _target(named)
    if target is None:
        return Misunderstood(Wrong.USAGE, USAGE["mute"])
    duration = duration_of(last)
    return Misunderstood(Wrong.DURATION, last) if duration is None else DoMute(target, duration)


def _target(words: list[str]) -> Target | None:
    scope = _SCOPES.get(words[0].lower())
    name = " ".join(words[1:])
    return None if scope is None or not name else Target(scope, name)
