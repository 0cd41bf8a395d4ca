"""Who may send for which device: tokens, kept as SHA-256, one line each. Pure.

A token is ``fw_<id>_<secret>``; its line is ``<id> <sha256 of the secret> <device>``. The secret is 256 random bits, so
that a plain hash cannot be searched. In the device of a line, ``*`` stands for any characters.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleetwatch.errors import EnvironmentProblemError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TOKEN: Final = re.compile(r"fw_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_LINE: Final = re.compile(r"([0-9a-f]{12})\s+([0-9a-f]{64})\s+(\S.*)")
_NOBODY: Final = bytes(32)
"""What the secret of an unknown id is compared with, so that it takes as long as a known one."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one token allows."""

    token_id: str
    digest: bytes
    devices: re.Pattern[str]

    def allows(self, device: str) -> bool:
        """Whether the token may send for a device."""
        return self.devices.fullmatch(device) is not None


class Tokens:
    """All tokens that are known."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._grants = {grant.token_id: grant for grant in grants}

    def __len__(self) -> int:
        return len(self._grants)

    def grant_of(self, authorization: str | None) -> Grant | None:
        """Return what an ``Authorization`` header allows; None when it is missing or names no token of ours."""
        scheme, _, token = (authorization or "").partition(" ")
        parts = _TOKEN.fullmatch(token.strip())
        if scheme.lower() != "bearer" or parts is None:
            return None
        grant = self._grants.get(parts[1])
        is_right = hmac.compare_digest(_digest(parts[2]), _NOBODY if grant is None else grant.digest)
        return grant if is_right else None


def make_token(device: str, random_bytes: Callable[[int], bytes]) -> tuple[str, str]:
    """Return a new token for a device or pattern, and its line.

    Raises:
        EnvironmentProblemError: the device cannot stand in a line.

    """
    if not device.strip() or device != device.strip() or not device.isprintable():
        raise EnvironmentProblemError(f"a token needs a device id, or a pattern such as press-*; not {device!r}")
    token_id = random_bytes(6).hex()
    secret = base64.urlsafe_b64encode(random_bytes(32)).decode().rstrip("=")
    return f"fw_{token_id}_{secret}", f"{token_id} {_digest(secret).hex()} {device}"


def parse_tokens(text: str, *, name: str) -> list[Grant]:
    """Read lines of tokens; empty ones and those that begin with ``#`` are left out.

    Raises:
        EnvironmentProblemError: a line is none, or its id was there already; names the line and not what it holds.

    """
    grants: dict[str, Grant] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        parts = _LINE.fullmatch(stripped)
        if parts is None:
            raise EnvironmentProblemError(
                f"{name}, line {number}: expected id, SHA-256 and device, as `fleetwatch gateway token` makes them"
            )
        if parts[1] in grants:
            raise EnvironmentProblemError(f"{name}, line {number}: the id {parts[1]} was there already, remove one")
        grants[parts[1]] = Grant(parts[1], bytes.fromhex(parts[2]), _pattern(parts[3]))
    return list(grants.values())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _pattern(device: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, device.split("*"))), re.DOTALL)
