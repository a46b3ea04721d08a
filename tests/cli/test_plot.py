"""A curve in a terminal: its shape, its scale, and that nothing above zero is drawn as nothing."""

from __future__ import annotations

from reconciler.cli.plot import plot


def test_a_curve_with_its_scale() -> None:
    assert plot([(n, n / 10) for n in range(11)], width=11, height=2) == [
        "        1 │      ▂▃▅▆█",
        "      0.5 │ ▂▃▅▆██████",
        "        0 └───────────",
        "           0        10",
    ]


def test_what_is_small_is_not_drawn_as_nothing() -> None:
    assert plot([(0, 1.0), (1, 1e-9), (2, 0.0)], width=3, height=1)[0].endswith("│█▁")


def test_columns_without_a_point_go_on_with_the_last_one() -> None:
    assert plot([(0, 1.0), (10, 1.0)], width=4, height=1)[0].endswith("│████")


def test_a_single_point_and_none() -> None:
    assert plot([(5, 2.0)], width=3, height=1)[0].endswith("│███")
    assert plot([]) == []


def test_nothing_but_zeros() -> None:
    assert plot([(0, 0.0), (1, 0.0)], width=2, height=1)[0].endswith("│")
