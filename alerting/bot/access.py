"""Who may ask and act: allow-listed chats, and in them allow-listed users. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Access(Enum):
    """Whether a person is answered."""

    ALLOWED = "ALLOWED"
    UNKNOWN_CHAT = "UNKNOWN_CHAT"
    UNKNOWN_USER = "UNKNOWN_USER"


@dataclass(frozen=True, slots=True)
class AllowList:
    """The chats that get alerts, and who may command the bot in them."""

    chats: frozenset[int]
    users: frozenset[int]

    def access(self, chat_id: int, user_id: int | None) -> Access:
        """Decide. In a private chat the chat's id is its user's, so that the chat's being listed lists the user."""
        if chat_id not in self.chats:
            return Access.UNKNOWN_CHAT
        is_private = chat_id > 0 and chat_id == user_id
        return Access.ALLOWED if is_private or user_id in self.users else Access.UNKNOWN_USER
