"""SQL in named blocks: ``-- name: upsert_readings`` begins one, its comment lines say what it does."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

_MARK: Final = "-- name: "


@cache
def load(stem: str) -> dict[str, str]:
    """Return the blocks of one file of this folder by their names."""
    text = (files(__name__) / f"{stem}.sql").read_text(encoding="utf-8")
    blocks: dict[str, str] = {}
    for block in text.split(_MARK)[1:]:
        name, _, body = block.partition("\n")
        blocks[name.strip()] = body.strip()
    return blocks
