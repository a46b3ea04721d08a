"""Worked arithmetic: questions answered step by step, generated, the same for a seed on every machine."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

_NAMES: Final = [
    "Ada",
    "Ben",
    "Chloe",
    "Dana",
    "Emil",
    "Fatima",
    "Goro",
    "Hana",
    "Ivan",
    "Jun",
    "Kofi",
    "Lena",
    "Mira",
    "Noor",
    "Omar",
    "Priya",
]
_THINGS: Final = ["apples", "books", "coins", "pencils", "shells", "stamps", "stones", "tickets"]


def arithmetic(documents: int, seed: int) -> list[str]:
    """Sums, differences, products and divisions of whole numbers, written out column by column."""
    draw = random.Random(seed)  # noqa: S311  # text, not secrets
    kinds = (_addition, _subtraction, _multiplication, _division)
    return [_several(draw, kinds) for _ in range(documents)]


def word_problems(documents: int, seed: int) -> list[str]:
    """Short stories with numbers, and equations in one unknown."""
    draw = random.Random(seed)  # noqa: S311  # text, not secrets
    kinds = (_shopping, _sharing, _journey, _equation)
    return [_several(draw, kinds) for _ in range(documents)]


Kind = Callable[[random.Random], str]


def _several(draw: random.Random, kinds: tuple[Kind, ...]) -> str:
    return "\n".join(draw.choice(kinds)(draw) for _ in range(3))


def _addition(draw: random.Random) -> str:
    a, b = draw.randrange(100, 9_999), draw.randrange(100, 9_999)
    lines, carry, width = [], 0, max(len(str(a)), len(str(b)))
    for place in range(width):
        x, y = a // 10**place % 10, b // 10**place % 10
        total = x + y + carry
        brought = f" + {carry} carried" if carry else ""
        lines.append(f"Step {place + 1}: {x} + {y}{brought} = {total}, write {total % 10}, carry {total // 10}.")
        carry = total // 10
    return f"Q: {a} + {b} = ?\n" + "\n".join(lines) + f"\nA: {a + b}\n"


def _subtraction(draw: random.Random) -> str:
    b = draw.randrange(10, 5_000)
    a = b + draw.randrange(10, 5_000)
    tens, rest = b // 10 * 10, b % 10
    return f"Q: {a} - {b} = ?\nStep 1: {a} - {tens} = {a - tens}.\nStep 2: {a - tens} - {rest} = {a - b}.\nA: {a - b}\n"


def _multiplication(draw: random.Random) -> str:
    a, b = draw.randrange(12, 999), draw.randrange(12, 99)
    tens, ones = b // 10 * 10, b % 10
    return (
        f"Q: {a} * {b} = ?\nStep 1: split {b} = {tens} + {ones}.\nStep 2: {a} * {tens} = {a * tens}.\n"
        f"Step 3: {a} * {ones} = {a * ones}.\nStep 4: {a * tens} + {a * ones} = {a * b}.\nA: {a * b}\n"
    )


def _division(draw: random.Random) -> str:
    b, quotient = draw.randrange(3, 40), draw.randrange(11, 400)
    rest = draw.randrange(b)
    a = b * quotient + rest
    tens = quotient // 10 * 10
    return (
        f"Q: {a} / {b} = ?\nStep 1: {b} * {tens} = {b * tens}, {a} - {b * tens} = {a - b * tens} is left.\n"
        f"Step 2: {b} * {quotient - tens} = {b * (quotient - tens)}, {rest} is left.\nA: {quotient} remainder {rest}\n"
    )


def _shopping(draw: random.Random) -> str:
    name, thing = draw.choice(_NAMES), draw.choice(_THINGS)
    count, price, extra = draw.randrange(3, 30), draw.randrange(2, 25), draw.randrange(5, 90)
    return (
        f"Q: {name} buys {count} {thing} at {price} each and pays {extra} for the way home. What is spent in all?\n"
        f"Step 1: the {thing} cost {count} * {price} = {count * price}.\n"
        f"Step 2: with the way home, {count * price} + {extra} = {count * price + extra}.\nA: {count * price + extra}\n"
    )


def _sharing(draw: random.Random) -> str:
    name, other = draw.sample(_NAMES, 2)
    thing, people, each = draw.choice(_THINGS), draw.randrange(2, 12), draw.randrange(3, 40)
    kept = draw.randrange(1, 20)
    total = people * each + kept
    return (
        f"Q: {name} has {total} {thing}, keeps {kept} and shares the others among {people} friends. "
        f"How many does {other}, one of them, get?\n"
        f"Step 1: {total} - {kept} = {people * each} {thing} are shared.\n"
        f"Step 2: {people * each} / {people} = {each}.\nA: {each}\n"
    )


def _journey(draw: random.Random) -> str:
    name = draw.choice(_NAMES)
    first, second = draw.randrange(2, 9), draw.randrange(2, 9)
    slow, fast = draw.randrange(3, 40), draw.randrange(40, 120)
    return (
        f"Q: {name} travels {first} hours at {slow} km/h and then {second} hours at {fast} km/h. How far is it?\n"
        f"Step 1: {first} * {slow} = {first * slow} km.\nStep 2: {second} * {fast} = {second * fast} km.\n"
        f"Step 3: {first * slow} + {second * fast} = {first * slow + second * fast} km.\n"
        f"A: {first * slow + second * fast} km\n"
    )


def _equation(draw: random.Random) -> str:
    x, factor, constant = draw.randrange(2, 90), draw.randrange(2, 20), draw.randrange(1, 99)
    right = factor * x + constant
    return (
        f"Q: Solve {factor}x + {constant} = {right}.\nStep 1: subtract {constant}: {factor}x = {right - constant}.\n"
        f"Step 2: divide by {factor}: x = {x}.\nCheck: {factor} * {x} + {constant} = {right}.\nA: x = {x}\n"
    )
