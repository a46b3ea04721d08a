"""Whole-number arithmetic as bash does it, or a refusal with its reason; never another number."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.launcher.arithmetic import NotArithmetic, evaluate

VARIABLES = {"A": "7", "B": "A+1", "C": "-3", "EMPTY": "", "LOOP": "LOOP", "WORD": "1.5"}


def value(text: str) -> int:
    return evaluate(text, lambda name: VARIABLES.get(name, ""))


def bash(texts: list[str]) -> list[str]:
    """What bash makes of each expression; an empty text for an error."""
    settings_ = "".join(f"{name}={text}; " for name, text in VARIABLES.items() if name != "LOOP")
    script = settings_ + 'for text; do (echo "$((text))") 2>/dev/null || echo; done'
    done = subprocess.run(["/bin/bash", "-c", script, "bash", *texts], capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("22*10**9", 22_000_000_000),
        ("2**3**2", 512),
        ("-2**2", 4),
        ("-7/2", -3),
        ("-7%3", -1),
        ("(1 + 2) * 3", 9),
        ("1 << 4 >> 2", 4),
        ("010 + 0x10", 24),
        ("B * A", 56),
        ("C - EMPTY", -3),
        ("", 0),
        ("- - 3", 3),
    ],
)
def test_examples(text: str, number: int) -> None:
    assert value(text) == number
    assert bash([text]) == [str(number)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1/0", "division by zero"),
        ("1e9", "'1e9' is not a whole number"),
        ("08", "'08' is not a whole number"),
        ("2**64", "beyond 64 bits"),
        ("9223372036854775807+1", "beyond 64 bits"),
        ("10**(10**9)", "beyond 64 bits"),
        ("2**-1", "negative exponent"),
        ("1<<64", "a shift by that much"),
        ("LOOP", "nested too deeply"),
        ("WORD", "'1.5' is not a whole number"),
        ("1 2", "'2' is not expected there"),
        ("1 +", "it ends too early"),
        ("(1", "closing parenthesis is missing"),
        ("A = 3", "'=' is not understood"),
        ("a[$(touch pwned)]", "'[' is not understood"),
        ("(" * 100 + "1", "nested too deeply"),
        ("1+" * 600 + "1", "more than 1000 characters"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(NotArithmetic, match=why.replace("(", r"\(").replace("[", r"\[").replace("+", r"\+")):
        value(text)


def test_a_sum_that_doubles_with_every_variable_ends() -> None:
    doubling = {f"v{i}": f"v{i + 1}+v{i + 1}" for i in range(60)}
    with pytest.raises(NotArithmetic, match="nested too deeply"):
        evaluate("v0", lambda name: doubling.get(name, "1"))


EXPRESSIONS = st.recursive(
    st.one_of(st.integers(0, 99).map(str), st.sampled_from(["A", "B", "C", "EMPTY", "0x1f", "017", "NONE"])),
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["+", "-", "*", "/", "%", "**", "<<", ">>"]), inner),
        st.builds("({})".format, inner),
        st.builds("-{}".format, inner),
        st.builds("+ {}".format, inner),
    ),
    max_leaves=8,
)


@settings(max_examples=20)
@given(st.lists(EXPRESSIONS, min_size=10, max_size=40))
def test_any_expression_has_bash_s_value_or_none(texts: list[str]) -> None:
    for text, number in zip(texts, bash(texts), strict=True):
        try:
            assert str(value(text)) == number, text
        except NotArithmetic:
            continue
