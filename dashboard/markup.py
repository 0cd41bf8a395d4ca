"""Small pieces of HTML that every page is made of. Pure; texts are escaped here, HTML is taken where it says so."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dashboard.problems import Problem
    from fleetwatch.i18n import Texts


@dataclass(frozen=True, slots=True)
class Figure:
    """One big figure in a tile; ``trend`` is HTML."""

    label: str
    value: str
    note: str
    tone: str = ""
    trend: str = ""


def figures_html(figures: Iterable[Figure]) -> str:
    """Draw tiles beside each other."""
    return (
        '<div class="fw-headlines">'
        + "".join(
            f'<div class="fw-tile fw-tone-{figure.tone or "none"}">'
            f'<div class="fw-label">{escape(figure.label)}</div>'
            f'<div class="fw-figure"><span class="fw-big" dir="ltr">{escape(figure.value)}</span>{figure.trend}</div>'
            f'<div class="fw-note">{escape(figure.note)}</div></div>'
            for figure in figures
        )
        + "</div>"
    )


def heading(text: str, note: str = "") -> str:
    """Draw the title of a part."""
    small = f" <small>{escape(note)}</small>" if note else ""
    return f'<div class="fw-heading">{escape(text)}{small}</div>'


def empty(text: str) -> str:
    """Say that there is nothing, and why."""
    return f'<div class="fw-empty">{escape(text)}</div>'


def notices(problems: Iterable[Problem], say: Texts) -> str:
    """Draw one line for each part that cannot be reached."""
    return "".join(notice(problem.said(say)) for problem in problems)


def notice(text: str) -> str:
    """Draw one line that something is wrong."""
    return f'<div class="fw-notice" role="status"><span aria-hidden="true">■</span> {escape(text)}</div>'


def done(text: str) -> str:
    """Draw one line that something was done."""
    return f'<div class="fw-done" role="status"><span aria-hidden="true">✓</span> {escape(text)}</div>'


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, attributes: Sequence[str] = ()) -> str:
    """Draw a table whose cells are HTML; on a phone each row stands as a block, its titles beside the cells.

    ``attributes`` are written into the rows' tags, one each.
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        f"<tr{f' {attributes[place]}' if attributes else ''}>"
        + "".join(f'<td data-title="{escape(title)}">{cell}</td>' for title, cell in zip(titles, row, strict=True))
        + "</tr>"
        for place, row in enumerate(rows)
    )
    return (
        f'<div class="fw-tile fw-scroll"><table class="fw-table"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def bars(counts: Sequence[tuple[str, int]], say: Texts) -> str:
    """Draw one bar for each name, the longest for the highest count."""
    most = max((count for _, count in counts), default=0)
    return "".join(
        f'<div class="fw-bar"><span class="fw-bar-name">{escape(name)}</span><span class="fw-bar-track">'
        f'<span class="fw-bar-fill" style="width:{max(1, round(100 * count / max(most, 1)))}%"></span></span>'
        f'<span class="fw-bar-count">{escape(say.isolate(count))}</span></div>'
        for name, count in counts
    )


def number(text: str, say: Texts) -> str:
    """Draw a number, or one with its unit, from left to right."""
    return f'<span class="fw-num">{escape(say.isolate(text))}</span>'


def name(text: str, say: Texts) -> str:
    """Draw an id."""
    shown = escape(say.isolate(text))
    return f'<span class="fw-id" title="{escape(text)}">{shown}</span>'


def word(say: Texts, kind: str, text: str) -> str:
    """Return the translation of a word that devices bring (a label, a sensor type), or the word itself, isolated."""
    key = f"{kind}.{text}"
    return say(key) if say.has(key) else say.isolate(text)
