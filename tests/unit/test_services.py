"""A missing service skips a test at a desk and fails it in CI."""

from __future__ import annotations

import pytest

from tests import services


@pytest.mark.parametrize("ci", ["true", "True"])
def test_in_ci_a_missing_service_is_a_failure(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.fail.Exception, match="no redis here"):
        services.unavailable("no redis here")


@pytest.mark.parametrize("ci", ["", "false", None])
def test_at_a_desk_a_missing_service_skips(monkeypatch: pytest.MonkeyPatch, ci: str | None) -> None:
    if ci is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match="no redis here"):
        services.unavailable("no redis here")


def test_a_mirror_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_DEBIAN_MIRROR", "file:/srv/debian")
    assert services.debian_mirror() == "file:/srv/debian"
