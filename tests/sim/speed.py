"""Pure functions of the reconciler that a run asks the same things again and again: their answers are remembered.

Only functions of values are, by everything they depend on. What is remembered is the real answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reconciler import loop
from reconciler.model import recipe as recipes
from reconciler.planner import drift, planner
from tests.sim.swap import swapped

RECIPES: dict[Any, Any] = {}
DIGESTS: dict[int, tuple[Any, str]] = {}
VERDICTS: dict[Any, Any] = {}
WANTS: dict[Any, Any] = {}
DIGESTS_MAX = 5000


@contextmanager
def remembered() -> Iterator[None]:
    """Within it, equal questions are answered once."""
    resolve, agrees, wants = vars(planner)["resolve"], vars(loop)["agrees"], drift._wants
    compute = vars(recipes.Recipe)["digest"].fget

    def resolve_once(catalog: Any, campaign: str, stage: Any, strategy: Any, before: Any, lists: Any) -> Any:
        key = (
            resolve, id(catalog), campaign, stage.metadata.name, strategy.name,
            tuple((outcome.stage, outcome.recipe.attempt) for outcome in before), tuple(sorted(lists.items())),
        )  # fmt: skip
        if key not in RECIPES:
            RECIPES[key] = (catalog, resolve(catalog, campaign, stage, strategy, before, lists))
        return RECIPES[key][1]

    def digest_once(self: Any) -> str:
        known = DIGESTS.get(id(self))
        if known is None or known[0] is not self:
            if len(DIGESTS) > DIGESTS_MAX:
                DIGESTS.clear()
            known = DIGESTS[id(self)] = (self, compute(self))
        return known[1]

    def agrees_once(declared: Any, text: str) -> Any:
        key = (agrees, declared.recipe.digest, declared.leg, declared.newest, declared.load, declared.universal,
               declared.data_list, text)  # fmt: skip
        if key not in VERDICTS:
            VERDICTS[key] = agrees(declared, text)
        return VERDICTS[key]

    def wants_once(desired: Any) -> Any:
        key = (wants, id(desired.catalog), desired.campaign)
        if key not in WANTS:
            WANTS[key] = (desired.catalog, wants(desired))
        return WANTS[key][1]

    answers = {
        (planner, "resolve"): resolve_once,
        (recipes.Recipe, "digest"): property(digest_once),
        (loop, "agrees"): agrees_once,
        (drift, "_wants"): wants_once,
    }
    with swapped(answers):
        yield


def forget() -> None:
    """The code has changed."""
    for memory in (RECIPES, DIGESTS, VERDICTS, WANTS):
        memory.clear()
