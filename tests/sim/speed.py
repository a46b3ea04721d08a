"""Pure functions of the reconciler that a run asks the same things again and again: their answers are remembered.

Only functions of values are, by everything they depend on. What is remembered is the real answer.
"""

from __future__ import annotations

import gc
import marshal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from reconciler import loop
from reconciler.cluster import answers as seen_in
from reconciler.domain import rules
from reconciler.model import recipe as recipes
from reconciler.planner import drift, evidence, forecast, look, rungs, strays
from tests.sim.swap import swapped

ANSWERS: dict[Any, tuple[Any, Any]] = {}
"""Function, key → what the key names by its identity and so must stay, and the answer."""
ANSWERS_MAX = 20_000


def once(function: Callable[..., Any], key: Callable[..., Any], keeps: Callable[..., Any]) -> Callable[..., Any]:
    """The function, that answers an equal question once. `keeps` gives what `key` names by its identity."""

    def answered(*arguments: Any) -> Any:
        asked = (function, key(*arguments))
        if asked not in ANSWERS:
            if len(ANSWERS) > ANSWERS_MAX:
                ANSWERS.clear()
            ANSWERS[asked] = (keeps(*arguments), function(*arguments))
        return ANSWERS[asked][1]

    return answered


def of_resolve(
    catalog: Any,
    campaign: str,
    stage: Any,
    strategy: Any,
    before: Any,
    lists: Any,
    parts: Any = None,
    outside: Any = None,
    kept: Any = None,
) -> Any:
    outcomes = tuple((outcome.stage, outcome.recipe.attempt) for outcome in before)
    # No campaign here takes a stage's source from a save on the way, so which there are does not matter.
    known = tuple(sorted(lists.items())), tuple(sorted((parts or {}).items()))
    return id(catalog), campaign, stage.metadata.name, stage.spec.tokens, strategy.name, outcomes, known, outside, kept


def of_agrees(declared: Any, text: str) -> Any:
    return (declared.recipe.digest, declared.leg, declared.newest, declared.load, declared.universal,
            declared.data_list, text)  # fmt: skip


def parts_of(recipe: Any) -> tuple[Any, ...]:
    return tuple(getattr(recipe, name) for name in recipe.__dataclass_fields__)


def of_recipe(recipe: Any) -> tuple[int, ...]:
    """Recipes that differ in a label share their other parts."""
    return tuple(map(id, parts_of(recipe)))


def of_commit(desired: Any, *_: Any) -> Any:
    return id(desired.catalog), desired.campaign, desired.revision, desired.dirty


def of_render(job: Any, log: str, templates: Any) -> Any:
    return repr(job), log, id(templates)


def of_fields(fields: Any) -> bytes:
    """Of an object of an answer that nothing was taken from yet."""
    return marshal.dumps(fields._left, 2)


@contextmanager
def remembered() -> Iterator[None]:
    """Within it, equal questions are answered once."""
    gc.collect(0)  # the world before this one, whole: nothing was looked through since it was made
    gc.disable()  # what is live is little, and looking through it again and again takes a sixth of the time
    try:
        with swapped(answers()):
            yield
    finally:
        gc.enable()


def answers() -> dict[tuple[Any, str], Any]:
    """(Owner, name) → the function that remembers."""
    recipe = recipes.Recipe

    def catalog(desired: Any, *_: Any) -> Any:
        return desired.catalog

    def first(value: Any, *_: Any) -> Any:
        return value

    return {
        (rungs, "resolve"): once(vars(rungs)["resolve"], of_resolve, first),
        (loop, "agrees"): once(vars(loop)["agrees"], of_agrees, first),
        (loop, "render"): once(vars(loop)["render"], of_render, lambda job, log, templates: templates),
        (drift, "_wants"): once(vars(drift)["_wants"], of_commit, catalog),
        (drift, "wanted"): once(drift.wanted, of_commit, catalog),
        (drift, "applied_text"): once(drift.applied_text, of_commit, catalog),
        (drift, "since_applied"): once(
            drift.since_applied, lambda desired, seen: (of_commit(desired), seen.applied), catalog
        ),
        (look, "read_lists"): once(
            vars(look)["read_lists"], lambda desired, seen: (of_commit(desired), tuple(seen.lists.items())), catalog
        ),
        (forecast, "_leg"): once(
            forecast._leg,
            lambda desired, lists, recipe, leg, boundary: (
                of_commit(desired),
                id(lists),
                id(recipe),
                id(leg),
                boundary,
            ),
            lambda desired, lists, recipe, leg, boundary: (desired.catalog, lists, recipe, leg),
        ),
        (recipe, "digest"): property(once(once(vars(recipe)["digest"].func, of_recipe, parts_of), id, first)),
        (seen_in, "_attempt"): once(vars(seen_in)["_attempt"], of_fields, lambda fields: None),
        (strays, "read_recipe"): once(recipes.read_recipe, str, first),
        (evidence, "read_recipe"): once(recipes.read_recipe, str, first),
        (rules, "observed"): once(
            rules.observed,
            lambda catalog, campaign, logged: (id(catalog), campaign, tuple(logged.items())),
            first,
        ),
        (recipe, "to_file"): once(recipe.to_file, id, first),
    }


def forget() -> None:
    """The code has changed."""
    ANSWERS.clear()
