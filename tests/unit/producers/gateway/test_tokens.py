"""Who may send for which device."""

from __future__ import annotations

import hashlib
import random
import stat
from typing import TYPE_CHECKING

import pytest

from fleetwatch.errors import EnvironmentProblemError
from fleetwatch.settings import Settings
from producers.gateway.token_source import TokenSource, add_line
from producers.gateway.tokens import Tokens, make_token, parse_tokens

if TYPE_CHECKING:
    from pathlib import Path

_random = random.Random(1).randbytes  # test ids must be the same in each process of a run
PRESS, PRESS_LINE = make_token("press-*", _random)
BOILER, BOILER_LINE = make_token("boiler-1", _random)


def tokens() -> Tokens:
    return Tokens(parse_tokens(f"# who\n\n{PRESS_LINE}\n  {BOILER_LINE}  \n", name="file"))


def test_a_token_is_known_by_its_header_and_kept_as_a_hash() -> None:
    grant = tokens().grant_of(f"Bearer {BOILER}")
    assert grant is not None
    assert grant.allows("boiler-1")
    secret = BOILER.removeprefix("fw_").partition("_")[2]
    assert secret not in BOILER_LINE
    assert hashlib.sha256(secret.encode()).hexdigest() in BOILER_LINE
    assert tokens().grant_of(f"bearer  {BOILER}") == grant  # the scheme's name has no case


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {BOILER}",
        BOILER,
        f"Bearer {BOILER}x",
        f"Bearer {BOILER[:-1]}",
        f"Bearer {BOILER[:-1]}{'A' if BOILER[-1] != 'A' else 'B'}",
        f"Bearer {BOILER[:16]}{PRESS[16:]}",  # one's id, another's secret
        f"Bearer {make_token('boiler-1', _random)[0]}",
        "Bearer fw_é",
    ],
)
def test_anything_else_is_nobody(header: str | None) -> None:
    assert tokens().grant_of(header) is None


@pytest.mark.parametrize(
    ("pattern", "device", "is_allowed"),
    [
        ("boiler-1", "boiler-1", True),
        ("boiler-1", "boiler-10", False),
        ("boiler-1", "xboiler-1", False),
        ("boiler-1", "BOILER-1", False),
        ("press-*", "press-", True),
        ("press-*", "press-a/b c", True),
        ("press-*", "press", False),
        ("*-north-*", "temp-north-03", True),
        ("*", "anything\nat all", True),
        ("a.c", "abc", False),  # only * is special
        ("a[bc]", "ab", False),
        ("a[bc]", "a[bc]", True),
        ("with space", "with space", True),
        ("größe", "größe", True),
    ],
)
def test_a_token_allows_a_device_or_a_pattern(pattern: str, device: str, is_allowed: bool) -> None:
    token, line = make_token(pattern, _random)
    grant = Tokens(parse_tokens(line, name="file")).grant_of(f"Bearer {token}")
    assert grant is not None
    assert grant.allows(device) is is_allowed


@pytest.mark.parametrize("device", ["", " ", " a", "a\nb", "a\x00"])
def test_a_device_that_cannot_stand_in_a_line_gets_no_token(device: str) -> None:
    with pytest.raises(EnvironmentProblemError, match="a token needs a device id"):
        make_token(device, _random)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{PRESS_LINE}\nsecret-in-the-wrong-place", "file, line 2: expected id, SHA-256 and device"),
        (PRESS_LINE.rpartition(" ")[0], "file, line 1: expected"),
        (f"{PRESS_LINE}\n#\n{PRESS_LINE}", "file, line 3: the id .* was there already"),
    ],
)
def test_a_line_that_is_none_is_named_and_not_shown(text: str, problem: str) -> None:
    with pytest.raises(EnvironmentProblemError, match=problem) as error:
        parse_tokens(text, name="file")
    assert "secret-in" not in str(error.value)


def test_no_tokens_are_configured_or_they_come_from_both_places(tmp_path: Path) -> None:
    assert TokenSource(Settings()).current is None
    file = tmp_path / "tokens"
    add_line(file, PRESS_LINE)
    source = TokenSource(Settings(gateway_tokens_file=file, gateway_tokens=BOILER_LINE))
    assert source.current is not None
    assert len(source.current) == 2
    file.write_text("")
    empty = TokenSource(Settings(gateway_tokens_file=file)).current
    assert empty is not None  # configured, and lets nobody in
    assert len(empty) == 0


def test_a_file_that_changes_is_taken_and_one_that_is_broken_leaves_the_former_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    add_line(file, PRESS_LINE)
    source = TokenSource(Settings(gateway_tokens_file=file))
    file.write_text(f"{PRESS_LINE}\nnonsense")
    source.look_again()
    assert "line 2" in source.problem
    assert source.current is not None
    assert source.current.grant_of(f"Bearer {PRESS}") is not None
    file.unlink()
    source.look_again()
    assert "cannot be read" in source.problem
    add_line(file, BOILER_LINE)
    source.look_again()
    assert source.problem == ""
    assert source.current.grant_of(f"Bearer {PRESS}") is None
    assert source.current.grant_of(f"Bearer {BOILER}") is not None


def test_a_file_that_is_missing_at_the_start_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="make it with `fleetwatch gateway token DEVICE --add`"):
        TokenSource(Settings(gateway_tokens_file=tmp_path / "none"))


def test_a_line_is_added_to_a_file_of_the_owners_only(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    add_line(file, "one")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("one\ntwo")  # by an editor that leaves the last line open
    add_line(file, "three")
    assert file.read_text() == "one\ntwo\nthree\n"
    with pytest.raises(EnvironmentProblemError, match="cannot write"):
        add_line(tmp_path / "no folder" / "tokens", "one")
