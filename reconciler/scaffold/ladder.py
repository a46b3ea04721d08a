"""How a new stage is trained by the cookbook: a ladder for its new data, after what has been trained before. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from reconciler.model.commented import InLine, Noted, plain
from reconciler.model.quantities import format_tokens

SMALL: Final = Fraction(1, 4)
"""Of what came before; a smaller dataset gets half of the weight at most (rule CPT021)."""
PASS_LEAST: Final = 0.9
"""Of a dataset's tokens: a pass from here on (rule CPT011)."""
PLATEAU: Final = "end at LR max: what comes after goes on from there without rewarming"


@dataclass(frozen=True, slots=True)
class Before:
    """What a stage comes after."""

    sizes: Mapping[str, int]
    """Symbol → tokens of every dataset that was trained before, the pretraining data first; empty for a first stage."""
    buffered: bool
    """Whether the buffer holds anything: a stage after the first one on D0 is done."""
    rewarm: bool = False
    """The source has decayed, so the rate has to rise again."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A strategy's name and mixture, and when it is tried."""

    name: str
    mixture: Mapping[str, float]
    when: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Ladder:
    """What a stage says of its training."""

    strong: bool
    tokens: int
    rungs: tuple[Rung, ...]


def ladder(symbol: str, size: int, before: Before, *, cools: bool, strong: bool = False) -> Ladder:
    """The usual tries for a dataset of `size` tokens, the cheapest first; the budget lets each complete a pass
    over it. A stage that `cools` down does so on no new data alone (rule CPT061)."""
    if not before.sizes:
        return Ladder(False, size, (Rung("pretrain", {symbol: 1}),))
    base = next(iter(before.sizes))
    strong = strong or size < SMALL * sum(before.sizes.values())
    if strong and before.buffered:
        rungs = (mix("mix-a", symbol, base), mix("mix-b", symbol, base))
    elif strong:
        rungs = (replay(50, symbol, base), replay(70, symbol, base))
    elif before.rewarm or cools:
        rungs = (replay(10 if before.rewarm else 5, symbol, base), replay(25, symbol, base))
    else:
        rungs = (naive(symbol), replay(5, symbol, base))
    return Ladder(strong, enough(size, symbol, rungs), rungs)


def enough(size: int, symbol: str, rungs: Sequence[Rung]) -> int:
    """Tokens in which the first of these tries, and nearly each other one, completes a pass over a dataset."""
    least = min(rung.mixture[symbol] for rung in rungs)
    return rounded(max(size / rungs[0].mixture[symbol], PASS_LEAST * size / least))


def naive(symbol: str) -> Rung:
    """Strategy 1."""
    return Rung("naive", {symbol: 1}, why="the new data alone: enough where it is like the old")


def replay(percent: int, symbol: str, base: str) -> Rung:
    """Strategy 2."""
    old = percent / 100
    when = "forgetting" if 25 <= percent < 50 else ""
    why = "some of the old data again, so that it is not forgotten"
    return Rung(f"replay-{percent}", {base: old, symbol: round(1 - old, 2)}, when, why)


def mix(name: str, symbol: str, base: str) -> Rung:
    """Strategy 3: base data, new data, and the buffer of what lies between."""
    shares = {"mix-a": (0.33, 0.33, 0.34), "mix-b": (0.5, 0.25, 0.25)}[name]
    why = "old data, new data, and what was trained between them (buffer)"
    return Rung(name, dict(zip((base, symbol, "buffer"), shares, strict=True)), why=why)


def rounded(tokens: float) -> int:
    """Two or three digits, as people write budgets; not less."""
    whole = int(-(-tokens // 1))
    step: int = 10 ** max(0, len(str(whole)) - 3)
    return -(-whole // step) * step


# --- as YAML


def strategies(
    rungs: Sequence[Rung], legs: Mapping[str, Any], cooldown: str | int | None = None
) -> list[dict[str, Any]]:
    """Every rung with a leg of the curve `legs`, and behind it a cooldown over so many tokens where one is wanted."""
    falls = {"shape": Noted("cooldown", "from LR max to the final rate: nothing later goes on from it")}
    found = [_strategy(rungs[0], legs, falls, cooldown)]
    return found + [_strategy(rung, plain(legs), plain(falls), cooldown) for rung in rungs[1:]]


def _strategy(
    rung: Rung, curve: Mapping[str, Any], falls: Mapping[str, Any], cooldown: str | int | None
) -> dict[str, Any]:
    found: dict[str, Any] = {"name": Noted(rung.name, rung.why)}
    if rung.when:
        found["if"] = Noted(rung.when, "more old data costs new: only when less of it has forgotten")
    found["legs"] = [{"mixture": InLine(rung.mixture), "lr": curve}]
    if cooldown is not None:
        found["legs"].append({"mixture": InLine(rung.mixture), "lr": falls, "tokens": cooldown})
    return found


def tokens_text(tokens: int) -> str | int:
    """As people write it."""
    text = format_tokens(tokens)
    return int(text) if text.isdigit() else text
