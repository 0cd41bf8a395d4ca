"""Prints docs/settings.md from the settings class; a test compares the two."""

from __future__ import annotations

from pydantic import SecretStr

from fleetwatch.settings import Settings

HEAD = """# Settings

Environment variables, read once when a process starts. Made from `fleetwatch/settings.py` by `tools/settings_page.py`.

Secrets can be files instead: with `FLEETWATCH_SECRETS_DIR` set, a file there named as the variable in small letters
(`fleetwatch_telegram_token`) holds the value. A variable that looks like a setting and is none gives a warning.

| variable | default | what it is |
| --- | --- | --- |
"""


def page() -> str:
    """Return the whole page."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        shown = "" if default is None or default == () else f"`{default}`"
        rows.append(f"| `FLEETWATCH_{name.upper()}` | {shown} | {field.description} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
