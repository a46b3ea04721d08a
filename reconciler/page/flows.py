"""Mixtures as flows from sources to stages, wide as their tokens, in a drawing of fixed width. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from reconciler.model.plan import Plan, StageForecast
from reconciler.model.quantities import approximate_tokens

WIDTH: Final = 760
LEFT: Final = 150
RIGHT: Final = 520
NODE: Final = 12
GAP: Final = 16
HIGH: Final = 46
"""Height of a stage of middling size."""
THIN: Final = 1.5
"""A flow is never drawn thinner."""
HUES: Final = 8
"""Colours of sources, in turn."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one leg draws from one source."""

    stage: str
    leg: int
    source: str
    share: str
    tokens: int
    epochs: float | None
    """None where the source's size is not known."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A ribbon."""

    path: str
    source: str
    stage: str
    hue: int
    text: str


@dataclass(frozen=True, slots=True)
class Node:
    """A source or a stage."""

    name: str
    about: str
    x: int
    y: float
    height: float
    hue: int


@dataclass(frozen=True, slots=True)
class Flows:
    """Both columns and what flows between them."""

    sources: tuple[Node, ...]
    stages: tuple[Node, ...]
    flows: tuple[Flow, ...]
    parts: tuple[Part, ...]
    unknown: tuple[str, ...]
    """Stages of which it cannot be said yet what they draw."""
    height: float
    width: int = WIDTH
    node: int = NODE


def flows(plan: Plan) -> Flows:
    """What every stage draws, by its current strategy; from the plan, so that what is to come is in it."""
    parts = tuple(part for forecast in plan.forecasts for part in _parts(forecast))
    sources = tuple(dict.fromkeys(part.source for part in parts))
    stages = tuple(dict.fromkeys(part.stage for part in parts))
    hues = {source: number % HUES for number, source in enumerate(sources)}
    together: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        together.setdefault((part.source, part.stage), []).append(part)
    total = sum(part.tokens for part in parts)
    scale = HIGH * max(len(stages), len(sources)) / total if total else 0.0
    tall = {pair: max(THIN, sum(part.tokens for part in some) * scale) for pair, some in together.items()}
    out = _column(sources, {name: sum(h for (s, _), h in tall.items() if s == name) for name in sources})
    into = _column(stages, {name: sum(h for (_, t), h in tall.items() if t == name) for name in stages})
    ends = [y + height for y, height in (*out.values(), *into.values())]
    strategies = {forecast.stage: forecast.strategy for forecast in plan.forecasts}
    from_y, to_y, found = {n: y for n, (y, _) in out.items()}, {n: y for n, (y, _) in into.items()}, []
    for stage in stages:
        for source in sources:
            if (source, stage) in tall:
                height = tall[source, stage]
                path = _ribbon(from_y[source], to_y[stage], height)
                from_y[source] += height
                to_y[stage] += height
                found.append(Flow(path, source, stage, hues[source], _told(together[source, stage])))
    return Flows(
        sources=tuple(
            Node(n, approximate_tokens(sum(p.tokens for p in parts if p.source == n)), LEFT, *out[n], hues[n])
            for n in sources
        ),
        stages=tuple(Node(n, strategies[n], RIGHT, *into[n], -1) for n in stages),
        flows=tuple(found),
        parts=parts,
        unknown=tuple(status.stage for status in plan.stages if status.stage not in stages),
        height=round(max(ends, default=0.0) + 4, 1),
    )


def _parts(forecast: StageForecast) -> list[Part]:
    return [
        Part(
            forecast.stage,
            number,
            source,
            f"{float(Fraction(share)):.4g}",
            round(Fraction(share) * leg.tokens),
            leg.epochs.get(source),
        )
        for number, leg in enumerate(forecast.legs)
        for source, share in leg.mixture.items()
    ]


def _column(names: Sequence[str], heights: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Name → (top, height)."""
    found, y = {}, 4.0
    for name in names:
        found[name] = (round(y, 2), round(heights[name], 2))
        y += max(heights[name], 2 * GAP) + GAP  # room for two lines of text
    return found


def _ribbon(y0: float, y1: float, height: float) -> str:
    x0, x1, middle = LEFT + NODE, RIGHT, (LEFT + NODE + RIGHT) / 2
    return (
        f"M{x0} {y0:.2f}C{middle} {y0:.2f} {middle} {y1:.2f} {x1} {y1:.2f}V{y1 + height:.2f}"
        f"C{middle} {y1 + height:.2f} {middle} {y0 + height:.2f} {x0} {y0 + height:.2f}Z"
    )


def _told(parts: Sequence[Part]) -> str:
    known = [part.epochs for part in parts if part.epochs is not None]
    epochs = f", {sum(known):.3g} epochs" if len(known) == len(parts) else ""
    tokens = approximate_tokens(sum(part.tokens for part in parts))
    return f"{parts[0].source} to {parts[0].stage}: {tokens} tokens{epochs}"
