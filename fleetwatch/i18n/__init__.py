"""Texts that people read, by language: a YAML catalog in each package that speaks, ``<package>/i18n/<language>.yaml``.

    say = i18n.texts("dashboard", "he")
    say("alerts.open", count=3)

A catalog is a tree of texts with ``{placeholders}``; its keys are the path, joined by dots. A text that depends on a
count is a mapping of plural forms instead (``one``, ``two``, ``other``, as far as the language has them). Below each
catalog lies the kernel's own: severities, lengths of time. A key that is missing, or a value too many or too few,
raises ``TextError``: no key ever shows. The texts are plain: who puts them into HTML escapes them.

Why not gettext: it shows the key of a missing text, and needs its catalogs compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Formatter
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LANGUAGES: Final = {"en": "English", "he": "עברית"}
"""Code of a language -> its name in itself."""
RIGHT_TO_LEFT: Final = frozenset({"he"})
PLURAL_FORMS: Final = {"en": ("one", "other"), "he": ("one", "two", "other")}
"""Unicode CLDR's cardinal forms for whole numbers."""
KERNEL: Final = "fleetwatch"
FIRST_STRONG_ISOLATE: Final = "\u2068"
POP_ISOLATE: Final = "\u2069"

Form = dict[str, str]


class TextError(LookupError):
    """A text that is not there, or values that are not the text's: a mistake of the caller or of a catalog."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one package in one language."""

    language: str
    catalog: Mapping[str, str | Form]

    @property
    def direction(self) -> str:
        """Return ``ltr`` or ``rtl``."""
        return direction(self.language)

    def text(self, key: str, /, **values: str | int) -> str:
        """Return the text with its values; an integer called ``count`` chooses the plural form.

        Integers are written with their thousands apart. In a right-to-left text every value is isolated.

        Raises:
            TextError: no such text, or the values are not those of its placeholders.

        """
        found = self.catalog.get(key)
        if found is None:
            raise TextError(f"no text {key!r} in language {self.language!r}")
        if isinstance(found, dict):
            if not isinstance(values.get("count"), int):
                raise TextError(f"text {key!r} needs an integer count")
            form = found[plural_form(self.language, int(values["count"]))]
        else:
            form = found
        if placeholders(found) != values.keys():
            raise TextError(f"text {key!r} takes {sorted(placeholders(found))}, not {sorted(values)}")
        return form.format_map({name: self.isolate(value) for name, value in values.items()})

    __call__ = text

    def has(self, key: str) -> bool:
        """Tell whether there is such a text: for words of others (labels, rules) that may have a translation."""
        return key in self.catalog

    def isolate(self, value: str | int) -> str:
        """Write an id or a number so that a right-to-left text around it leaves it in order."""
        shown = whole(value) if isinstance(value, int) else value
        return isolate(shown) if self.direction == "rtl" else shown


@cache
def texts(package: str, language: str) -> Texts:
    """Return a package's texts above the kernel's; read once.

    Raises:
        TextError: there is no such language, or a catalog cannot be used.

    """
    if language not in LANGUAGES:
        raise TextError(f"no language {language!r}: there are {', '.join(LANGUAGES)}")
    catalog = read_catalog(KERNEL, language)
    own = {} if package == KERNEL else read_catalog(package, language)
    if both := catalog.keys() & own.keys():
        raise TextError(f"{package}: the kernel has {sorted(both)} already")
    return Texts(language, catalog | own)


def read_catalog(package: str, language: str) -> dict[str, str | Form]:
    """Read one file, flat: key -> text or plural forms.

    Raises:
        TextError: the file is missing, or is no tree of texts.

    """
    try:
        content = (resources.files(package) / "i18n" / f"{language}.yaml").read_text(encoding="utf-8")
        return dict(_flat(yaml.safe_load(content), "", PLURAL_FORMS[language]))
    except (OSError, ModuleNotFoundError, yaml.YAMLError, ValueError) as error:
        raise TextError(f"{package}: no usable catalog of {language!r}: {error}") from error


def direction(language: str) -> str:
    """Return ``ltr`` or ``rtl``, as the HTML attribute dir takes it."""
    return "rtl" if language in RIGHT_TO_LEFT else "ltr"


def isolate(text: str) -> str:
    """Wrap in U+2068 and U+2069: the text keeps its own direction, whatever stands around it."""
    return f"{FIRST_STRONG_ISOLATE}{text}{POP_ISOLATE}"


def plural_form(language: str, count: int) -> str:
    """Return the form that a whole number takes."""
    form = {1: "one", 2: "two"}.get(count, "other")
    return form if form in PLURAL_FORMS[language] else "other"


def placeholders(entry: str | Form) -> frozenset[str]:
    """Return the names of a text's values; a text with plural forms always takes ``count``."""
    forms = [entry] if isinstance(entry, str) else [*entry.values(), "{count}"]
    return frozenset(name for form in forms for _, name, _, _ in Formatter().parse(form) if name is not None)


def whole(value: int) -> str:
    """Write a whole number, thousands apart by a narrow space."""
    return f"{value:,}".replace(",", "\u202f")


def _flat(tree: Any, path: str, forms: tuple[str, ...]) -> Iterator[tuple[str, str | Form]]:
    if isinstance(tree, str):
        if not all(name is None or name.isidentifier() for _, name, _, _ in Formatter().parse(tree)):
            raise ValueError(f"{path} has a placeholder that is no name")
        yield path, tree
    elif isinstance(tree, dict) and "other" in tree:
        if tuple(tree) != forms or not all(isinstance(form, str) for form in tree.values()):
            raise ValueError(f"{path} must have the forms {', '.join(forms)}")
        yield path, tree
    elif isinstance(tree, dict):
        for name, branch in tree.items():
            if not isinstance(name, str):  # YAML takes a bare no, on or 1 for something else
                raise ValueError(f"{path}.{name} must be quoted")  # noqa: TRY004  # wrong content, as the others
            yield from _flat(branch, f"{path}.{name}" if path else name, forms)
    else:
        raise ValueError(f"{path} is no text")
