"""How rarity is said."""

from __future__ import annotations

import pytest

from streams.explain import one_in


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
