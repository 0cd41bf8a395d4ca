"""Texts by language: complete in every language, never a key in place of a text, values in order from right to left."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from fleetwatch import i18n

ROOT = Path(__file__).parents[3]
PACKAGES = sorted(path.parent.parent.name for path in ROOT.glob("*/i18n/en.yaml"))
HE = i18n.Texts("he", {"seen": "{device} נראה", "cams": {"one": "אחת", "two": "שתי {what}", "other": "{count} {what}"}})


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_language_has_the_same_texts_with_the_same_placeholders(package, language):
    english, other = (i18n.read_catalog(package, code) for code in ("en", language))
    assert other.keys() == english.keys()
    for key, entry in other.items():
        assert i18n.placeholders(entry) == i18n.placeholders(english[key]), key
        assert isinstance(entry, dict) == isinstance(english[key], dict), key
        assert all(form.strip() for form in (entry.values() if isinstance(entry, dict) else [entry])), key
    assert i18n.texts(package, language).direction == ("rtl" if language == "he" else "ltr")


@pytest.mark.parametrize("package", PACKAGES)
def test_hebrew_texts_are_hebrew_and_english_ones_are_not(package):
    for key, entry in i18n.read_catalog(package, "he").items():
        texts = entry.values() if isinstance(entry, dict) else [entry]
        for text in texts:
            plain = "".join(literal for literal, *_ in i18n.Formatter().parse(text))
            assert any("א" <= sign <= "ת" for sign in plain) or not any(sign.isalpha() for sign in plain), key
    for key, entry in i18n.read_catalog(package, "en").items():
        assert not any("א" <= sign <= "ת" for sign in str(entry)), key


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_no_key_stands_twice(package, language):
    """YAML would take the last one without a word."""

    def look(node):
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value]
            assert len(names) == len(set(names)), names
            for _, value in node.value:
                look(value)

    look(yaml.compose((ROOT / package / "i18n" / f"{language}.yaml").read_text()))


def test_the_catalogs_are_shipped_with_their_packages():
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    assert PACKAGES
    for package in PACKAGES:
        found = {path for pattern in shipped for path in (ROOT / package).glob(pattern)}
        assert {ROOT / package / "i18n" / f"{code}.yaml" for code in i18n.LANGUAGES} <= found


def test_a_missing_text_raises_and_never_shows():
    with pytest.raises(i18n.TextError, match=r"no text 'no\.such'"):
        i18n.texts("fleetwatch", "en")("no.such")
    with pytest.raises(i18n.TextError, match="no language 'xx'"):
        i18n.texts("fleetwatch", "xx")
    with pytest.raises(i18n.TextError, match="no usable catalog"):
        i18n.texts("schemas", "en")


@pytest.mark.parametrize("values", [{}, {"device": "a", "more": "b"}, {"other": "a"}])
def test_values_that_are_not_the_texts_raise(values):
    with pytest.raises(i18n.TextError, match=r"takes \['device'\]"):
        HE.text("seen", **values)


def test_a_count_chooses_the_plural_form():
    english = i18n.Texts("en", {"cams": {"one": "{count} camera", "other": "{count} cameras"}})
    assert [english("cams", count=n) for n in (0, 1, 2, 12_345)] == [
        "0 cameras", "1 camera", "2 cameras", "12\u202f345 cameras",
    ]  # fmt: skip
    assert HE("cams", count=1, what="x") == "אחת"
    assert HE("cams", count=2, what="x") == "שתי \u2068x\u2069"
    assert HE("cams", count=3, what="x") == "\u20683\u2069 \u2068x\u2069"
    with pytest.raises(i18n.TextError, match="integer count"):
        HE("cams", count="3", what="x")


def test_values_are_isolated_only_from_right_to_left():
    assert HE("seen", device="pump-7") == "\u2068pump-7\u2069 נראה"
    assert i18n.texts("fleetwatch", "en")("ago.seconds", n=5) == "5 s ago"
    assert i18n.texts("fleetwatch", "he")("ago.seconds", n=5).startswith("לפני \u20685\u2069 ")
    assert (i18n.direction("he"), i18n.direction("en")) == ("rtl", "ltr")
    assert i18n.isolate("a") == "\u2068a\u2069"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("no: x", "must be quoted"),  # YAML reads a bare no as False
        ("a: 5", "a is no text"),
        ("a: {one: x, other: y}", "must have the forms one, two, other"),
        ("a: '{0.secret}'", "no name"),
        ("a: '{'", "no usable catalog"),
        ("a: [", "no usable catalog"),
    ],
)
def test_a_catalog_that_cannot_be_used_says_why(content, what, tmp_path, monkeypatch):
    (tmp_path / "i18n").mkdir()
    (tmp_path / "i18n" / "he.yaml").write_text(content)
    monkeypatch.setattr(i18n.resources, "files", lambda _: tmp_path)
    with pytest.raises(i18n.TextError, match=what):
        i18n.read_catalog("any", "he")
