"""Telegram's HTML subset as its server reads it: the text that people see, or a refusal in its words."""

from __future__ import annotations

import html
import re

TAGS = frozenset(
    "b strong i em u ins s strike del code pre blockquote a span tg-spoiler tg-emoji".split()  # noqa: SIM905
)
_TAG = re.compile(r"<(/?)([a-zA-Z-]*)([^<>]*)>")


class CannotParseError(Exception):
    """The server refuses the markup; the text is its description."""


def visible_text(markup: str) -> str:
    """Return the text without its markup."""
    out: list[str] = []
    open_tags: list[str] = []
    at = 0
    while True:
        start = markup.find("<", at)
        if start < 0:
            break
        out.append(markup[at:start])
        offset = len(markup[:start].encode())
        tag = _TAG.match(markup, start)
        if tag is None:
            raise CannotParseError(f"Unsupported start tag at byte offset {offset}")
        is_end, name, rest = bool(tag[1]), tag[2].lower(), tag[3]
        if is_end:
            if not open_tags:
                raise CannotParseError(f"Unexpected end tag at byte offset {offset}")
            expected = open_tags.pop()
            if name != expected:
                raise CannotParseError(
                    f'Unmatched end tag at byte offset {offset}, expected "</{expected}>", found "</{name}>"'
                )
        else:
            _check_start(name, rest, offset)
            open_tags.append(name)
        at = tag.end()
    out.append(markup[at:])
    if open_tags:
        raise CannotParseError(f'Can\'t find end tag corresponding to start tag "{open_tags[-1]}"')
    return html.unescape("".join(out))


def _check_start(name: str, rest: str, offset: int) -> None:
    if name not in TAGS:
        raise CannotParseError(f'Unsupported start tag "{name}" at byte offset {offset}')
    if name == "span" and 'class="tg-spoiler"' not in rest:
        raise CannotParseError(f'Tag "span" must have class "tg-spoiler" at byte offset {offset}')
