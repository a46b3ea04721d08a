"""Tokens ↔ iterations ↔ node-hours."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

NO_INTERVAL: Final = 10**18
"""In place of a save interval where a leg may end anywhere."""


def iterations_for(tokens: int, tokens_per_iteration: int, save_every: int) -> int:
    """Iterations that train `tokens` within one step, never a multiple of the save interval.

    A target on the interval is saved twice into the same folder, and a kill during the second write corrupts a
    checkpoint that both pointers call good (launcher contract, checkpoints).
    """
    exact = Fraction(tokens, tokens_per_iteration)
    above, below = math.ceil(exact), math.floor(exact)
    candidates = (above, above + 1) if above == below else (above, below)
    for count in candidates:
        if count >= 1 and count % save_every != 0:
            return count
    return max(1, above)


def legs_tokens(stage_tokens: int, legs: tuple[int | None, ...]) -> tuple[int, ...]:
    """The stage's budget over its legs: declared ones as declared, the undeclared one takes the rest.

    Raises:
        ValueError: more than one undeclared, or the declared ones do not fit; the manifest check says so first.
    """
    declared = sum(tokens for tokens in legs if tokens is not None)
    missing = sum(tokens is None for tokens in legs)
    rest = stage_tokens - declared
    if missing > 1 or (missing == 1 and rest <= 0) or (missing == 0 and rest != 0):
        raise ValueError(f"legs declare {declared} of {stage_tokens} tokens and {missing} leave theirs open")
    return tuple(rest if tokens is None else tokens for tokens in legs)


def off_interval(iterations: int, save_every: int) -> int:
    """The least number from `iterations` on that is no multiple of the save interval, if there is one."""
    return iterations + 1 if save_every > 1 and iterations % save_every == 0 else iterations


def save_interval(save_every: int, batch: int, own: int) -> int:
    """The model's save cadence of `save_every` iterations at its global batch `batch`, at another one: as many tokens
    between saves."""
    return max(1, round(Fraction(save_every * batch, own)))


def usable_seconds(walltime_s: Fraction, startup_s: Fraction) -> Fraction:
    """How long a job may iterate: walltime less its start-up, and as much again for the last save."""
    return walltime_s - 2 * startup_s


def jobs_forecast(tokens: int | Fraction, tokens_per_second: Fraction, usable_s: Fraction) -> int:
    """Segments that a leg takes at a known speed."""
    return max(1, math.ceil(Fraction(tokens) / tokens_per_second / usable_s))
