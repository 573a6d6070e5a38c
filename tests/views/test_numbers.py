"""Figures are written alike everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirt_lab.views import numbers


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "—"),
        (0, "0 ms"),
        (0.004, "4.00 µs"),
        (0.4123, "0.41 ms"),
        (9.996, "10.0 ms"),
        (57.34, "57.3 ms"),
        (99.96, "100 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (1_244, "1.24 s"),
        (59_949, "59.9 s"),
        (59_960, "1 min 00 s"),
        (125_000, "2 min 05 s"),
        (3_900_000, "1 h 05 min"),
        (-12.0, "-12.0 ms"),
    ],
)
def test_a_duration_has_three_digits_and_the_unit_that_fits(ms: float | None, text: str):
    assert numbers.duration(ms) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (None, "—"),
        (0, "0 B"),
        (312, "312 B"),
        (1000, "0.98 KiB"),
        (4_925, "4.81 KiB"),
        (561 * 1024**2, "561 MiB"),
        (1000 * 1024**2, "0.98 GiB"),
        (80 * 1024**3, "80.0 GiB"),
        (5 * 1024**5, "5,120 TiB"),
        (-1024, "-1.00 KiB"),
    ],
)
def test_a_size_is_in_binary_units(size_bytes: int | None, text: str):
    assert numbers.size(size_bytes) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "—"),
        (0, "0 %"),
        (0.00001, "<0.01 %"),
        (0.0015, "0.15 %"),
        (0.042, "4.2 %"),
        (0.9312, "93 %"),
        (1, "100 %"),
    ],
)
def test_a_share_is_shown_in_percent(share: float | None, text: str):
    assert numbers.percent(share) == text


def test_moments_of_a_column_are_alike():
    assert [numbers.moment(ms) for ms in (-0.4, 0, 12_345.678)] == ["-0.40 ms", "0.00 ms", "12,345.68 ms"]


def test_a_number_agrees_with_its_noun():
    assert numbers.count(1, "step") == "1 step"
    assert numbers.count(2_000, "step") == "2,000 steps"


@given(st.floats(0, 1e12))
def test_every_duration_and_size_has_a_short_text(value: float):
    assert 3 <= len(numbers.duration(value)) <= 16
    assert 3 <= len(numbers.size(value)) <= 12
