"""Quantities mean exactly what people write, and are printed back so that they can be read again."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model import quantities
from reconciler.model.quantities import Rate, Unreadable


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("4T", 4 * 10**12),
        ("1.5T", 1_500_000_000_000),
        ("22B", 22 * 10**9),
        ("0.5M", 500_000),
        ("12k", 12_000),
        ("12K", 12_000),
        ("7", 7),
        ("4673780159710", 4_673_780_159_710),
    ],
)
def test_tokens_are_read(text: str, tokens: int) -> None:
    assert quantities.parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "1.5 T", "1.5TB", "-1T", "1e9", "T", "1_000", ".5T", "1.T", "٤T", "4T\n", "1.5"])
def test_what_is_no_number_of_tokens_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        quantities.parse_tokens(text)


def test_an_amount_of_bytes_is_told_apart_from_tokens() -> None:
    with pytest.raises(Unreadable, match="amount of bytes"):
        quantities.parse_tokens("1.5 TB")
    with pytest.raises(Unreadable, match="not a whole number of tokens"):
        quantities.parse_tokens("1.0000001k")


@given(st.integers(0, 10**17))
def test_tokens_round_trip(tokens: int) -> None:
    assert quantities.parse_tokens(quantities.format_tokens(tokens)) == tokens


@pytest.mark.parametrize(
    ("tokens", "exact", "approximate"),
    [
        (1_500_000_000_000, "1.5T", "1.5T"),
        (1_503_238_553, "1503238.553k", "1.5B"),
        (50_331_648, "50331.648k", "50.3M"),
        (999, "999", "999"),
        (1_000, "1k", "1k"),
        (0, "0", "0"),
    ],
)
def test_tokens_are_printed(tokens: int, exact: str, approximate: str) -> None:
    assert quantities.format_tokens(tokens) == exact
    assert quantities.approximate_tokens(tokens) == approximate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6h", Fraction(21_600)),
        ("1h30m", Fraction(5_400)),
        ("0.5s", Fraction(1, 2)),
        ("45s", Fraction(45)),
        ("2d", Fraction(172_800)),
        ("06:00:00", Fraction(21_600)),
        ("00:10:05", Fraction(605)),
    ],
)
def test_durations_are_read(text: str, seconds: Fraction) -> None:
    assert quantities.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "6 h", "1:5:7", "06:60:00", "06:00", "-1h", "h", "1w", "6h\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="a duration is written like"):
        quantities.parse_duration(text)


@given(st.integers(0, 10**7))
def test_walltimes_are_padded_and_round_trip(seconds: int) -> None:
    text = quantities.format_walltime(seconds)
    assert all(len(part) >= 2 for part in text.split(":"))
    assert quantities.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (60, "1m"), (3907, "1h 5m"), (7200, "2h"), (90_000, "1d 1h"), (61, "1m 1s")],
)
def test_durations_are_printed_for_people(seconds: float, text: str) -> None:
    assert quantities.format_duration(seconds) == text


def test_shares_are_exact() -> None:
    assert quantities.parse_share("5%") == Decimal("0.05")
    assert quantities.parse_share("0.1%") == Decimal("0.001")
    assert quantities.parse_share("100%") == 1


@pytest.mark.parametrize("text", ["", "5", "101%", "-1%", "5 %", "0.05"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="a share is written like"):
        quantities.parse_share(text)


def test_decimals_do_not_pass_through_binary_floats() -> None:
    assert quantities.parse_decimal("0.1") + quantities.parse_decimal("0.2") == Decimal("0.3")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "+1", "1e9999", "1.", ".5", "", "1 ", "0x1", "NaN123"])
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        quantities.parse_decimal(text)


@given(st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=12))
def test_decimals_round_trip(value: Decimal) -> None:
    assert quantities.parse_decimal(quantities.format_decimal(value)) == value


@pytest.mark.parametrize(
    ("value", "text"), [("2e-4", "0.0002"), ("0.33", "0.33"), ("0", "0"), ("1E+3", "1000"), ("1e-10", "1e-10")]
)
def test_decimals_are_printed_as_people_write_them(value: str, text: str) -> None:
    assert quantities.format_decimal(Decimal(value)) == text


@pytest.mark.parametrize(
    ("text", "rate", "resolved"),
    [
        ("lrMax", Rate("lrMax", Decimal(1)), Fraction(2, 1000)),
        ("lrMax/5", Rate("lrMax", Decimal(5)), Fraction(4, 10_000)),
        ("lrMax/2.5", Rate("lrMax", Decimal("2.5")), Fraction(8, 10_000)),
        ("lrMax*2", Rate("lrMax", Decimal(2), times=True), Fraction(4, 1000)),
        ("lrMax*2.5", Rate("lrMax", Decimal("2.5"), times=True), Fraction(5, 1000)),
        ("lrMax*1", Rate("lrMax", Decimal(1)), Fraction(2, 1000)),
        ("lrFinal", Rate("lrFinal", Decimal(1)), Fraction(1, 10_000)),
        ("lrFinal*3", Rate("lrFinal", Decimal(3), times=True), Fraction(3, 10_000)),
        ("lrSource", Rate("lrSource", Decimal(1)), Fraction(1, 1000)),
        ("lrSource/100", Rate("lrSource", Decimal(100)), Fraction(1, 100_000)),
        ("lrSource*2", Rate("lrSource", Decimal(2), times=True), Fraction(2, 1000)),
        ("2e-4", Rate(None, Decimal("2e-4")), Fraction(2, 10_000)),
    ],
)
def test_rates(text: str, rate: Rate, resolved: Fraction) -> None:
    assert quantities.parse_rate(text) == rate
    assert rate.resolve(Decimal("2e-3"), Decimal("1e-4"), Decimal("1e-3")) == resolved
    assert quantities.parse_rate(str(rate)) == rate


def test_a_rate_of_a_source_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="lrSource/5 is asked for, and the rate of the source is not known"):
        quantities.parse_rate("lrSource/5").resolve(Decimal(1), Decimal(0))


@pytest.mark.parametrize("text", ["lrmax", "lrMax/0", "lrMin", "lrMax/-5", "lrMax*0", "2*lrMax", "lrMax*2/3", "fast"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="a learning rate is a number"):
        quantities.parse_rate(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1870, "1.87 kB"), (999_700, "1,000 kB"), (94_337_818_624, "94.3 GB"),
     (1.4e12, "1.4 TB"), (2.5e15, "2,500 TB")],
)  # fmt: skip
def test_bytes_for_people(size: float, text: str) -> None:
    assert quantities.format_bytes(size) == text
