"""The documentation names everything that a user can set, call or meet."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from fleetwatch import topics
from fleetwatch.cli.main import build_app
from fleetwatch.records import Reason, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]


def everything() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return "\n".join(page.read_text() for page in pages)


def commands() -> Iterator[list[str]]:
    def walk(command: object, path: list[str]) -> Iterator[list[str]]:
        children = getattr(command, "commands", None)
        if not children:
            yield path
            return
        for name, child in children.items():
            yield from walk(child, [*path, name])

    yield from walk(typer.main.get_command(build_app()), [])


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_is_in_the_readme(command: list[str]) -> None:
    readme = (ROOT / "README.md").read_text()
    assert " ".join(command) in readme


def test_the_settings_page_is_made_from_the_settings() -> None:
    made = runpy.run_path(str(ROOT / "tools/settings_page.py"))["page"]()
    assert (ROOT / "docs/settings.md").read_text() == made, "run tools/settings_page.py > docs/settings.md"


def test_every_topic_and_every_reason_is_explained() -> None:
    text = everything()
    missing = [name for name in topics.ALL if name not in text]
    unused = {Reason.SCORING_FAILED}  # kept in the schema for stores of older letters; nothing gives it
    missing += [reason.value for reason in Reason if reason not in unused and reason.value not in text]
    missing += [stage.value for stage in Stage if stage is not Stage.SCORE and stage.value not in text]
    assert missing == []
