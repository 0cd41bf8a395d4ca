"""How rarity and numbers are said."""

from __future__ import annotations

import pytest

from streams.explain import one_in, readable


@pytest.mark.parametrize(
    ("powers", "said"),
    [
        (4.08, "1 in 12,000"),
        (2.0, "1 in 100"),
        (0.0, "1 in 1"),
        (-1.0, "1 in 1"),
        (1.2, "1 in 16"),
        (6.0, "1 in 1,000,000"),
        (9.0, "less than 1 in a billion"),
        (300.0, "less than 1 in a billion"),
    ],
)
def test_rarity_is_said_in_two_digits(powers: float, said: str) -> None:
    assert one_in(powers) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(186_160.0, "186,160"), (-12_345.6, "-12,346"), (9_999.4, "9999"), (0.06612, "0.06612"), (1.5e300, "1.5e+300")],
)
def test_a_large_number_is_said_as_a_whole(number: float, said: str) -> None:
    assert readable(number) == said
