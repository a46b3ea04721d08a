"""Two wants → what changed, in the field's words; and what to say when somebody edits what has been trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reconciler.model.fieldtypes import Frozen
from reconciler.model.observed import Observed, Unread
from reconciler.model.plan import Change
from reconciler.model.quantities import approximate_tokens
from reconciler.model.recipe import Recipe
from reconciler.planner.desired import Desired

TOLD_CHANGES_MAX = 6
CAMPAIGN = "(campaign)"
"""Where a change stands that belongs to no one stage."""
STRATEGY = "strategy "
"""Begins the path of everything that belongs to one strategy, by its name."""
LADDER = " > "


def applied_text(desired: Desired) -> str:
    """The text of `applied.json`: what this revision wants, flat, for the next plan to compare with."""
    body = {
        "revision": desired.revision,
        "dirty": desired.dirty,
        "wants": _wants(desired),
        "templates": desired.site.templates.digest,
    }
    return json.dumps(body, sort_keys=True, indent=1) + "\n"


def wanted(desired: Desired) -> dict[str, str]:
    """Stage → digest of what its manifest wants, and of what holds for all of them: an apply takes these as applied
    along with its actions, so a plan that was reviewed is one for them and no others."""
    return {
        stage: hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]
        for stage, flat in _wants(desired).items()
    }


def since_applied(desired: Desired, observed: Observed) -> tuple[Change, ...]:
    """Differences between what was last applied and what is wanted now; empty before the first apply."""
    if observed.applied is None or isinstance(observed.applied, Unread):
        return ()
    try:
        before = json.loads(observed.applied)["wants"]
        was = {str(stage): {str(k): str(v) for k, v in flat.items()} for stage, flat in before.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()  # a damaged file only costs the comparison; the next apply writes it anew
    return tuple(_differences(was, _wants(desired)))


def not_applied(desired: Desired, observed: Observed) -> str:
    """Why what is wanted is not what the last apply wanted, in words; empty where it is, to the last field."""
    if isinstance(observed.applied, Unread):
        return f"what was last applied could not be read: {observed.applied.why}"
    if observed.applied is None:
        return "nothing was applied before"
    changes = since_applied(desired, observed)
    if changes:
        told = [f"{c.stage}: {c.path} {c.before} → {c.after}" if c.path else f"{c.stage}: {c.after}" for c in changes]
        more = [f"{len(told) - TOLD_CHANGES_MAX} more"] if len(told) > TOLD_CHANGES_MAX else []
        return "; ".join([*told[:TOLD_CHANGES_MAX], *more])
    try:
        before = json.loads(observed.applied)
        same, templates = before["wants"] == _wants(desired), before["templates"] == desired.site.templates.digest
    except (ValueError, KeyError, TypeError, RecursionError):
        return "what was last applied is not readable, or is by an earlier version of this program"
    if not same:
        return "what was last applied is not readable"
    return "" if templates else "the templates of job scripts are others"


def between(before: Desired | None, after: Desired) -> tuple[Change, ...]:
    """Differences between what two revisions want, in the field's words; without an earlier one all of it is new."""
    return tuple(_differences(_wants(before) if before is not None else {}, _wants(after)))


def _differences(was: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> Iterator[Change]:
    for stage in [*now, *(name for name in was if name not in now)]:
        old, new = was.get(stage), now.get(stage)
        if old is None or new is None:
            yield Change(stage, "", "absent" if old is None else "present", "removed" if old else "new", False)
        elif old != new:
            yield from _within(stage, old, new)


def _within(stage: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    """The changes of one stage. A strategy that came, went or was only renamed is one change, however long it is."""
    was, plain_old = _strategies(old)
    now, plain_new = _strategies(new)
    for name in [name for name in now if name in was]:
        plain_old |= {f"{STRATEGY}{name}.{leaf}": value for leaf, value in was[name].items()}
        plain_new |= {f"{STRATEGY}{name}.{leaf}": value for leaf, value in now[name].items()}
    for path in [*plain_new, *(path for path in plain_old if path not in plain_new)]:
        if plain_old.get(path) != plain_new.get(path):
            before, after = plain_old.get(path, "absent"), plain_new.get(path, "absent")
            yield Change(stage, path, before, after, False)
    gone = {name: body for name, body in was.items() if name not in now}
    for name in [name for name in now if name not in was]:
        former = next((other for other, body in gone.items() if body == now[name]), None)
        if former is None:
            yield Change(stage, f"{STRATEGY}{name}", "absent", "new", False)
        else:
            del gone[former]
            yield Change(stage, "strategy renamed", former, name, False)
    for name in gone:
        yield Change(stage, f"{STRATEGY}{name}", "present", "removed", False)


def _strategies(flat: Mapping[str, str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """(strategy → leaf → value, all else), from the flat form of a stage. A name may hold dots, as paths do."""
    names = sorted(flat.get("ladder", "").split(LADDER), key=len, reverse=True)
    strategies: dict[str, dict[str, str]] = {}
    rest: dict[str, str] = {}
    for path, value in flat.items():
        name = next((name for name in names if path.startswith(f"{STRATEGY}{name}.")), None)
        if name is None:
            rest[path] = value
        else:
            strategies.setdefault(name, {})[path.removeprefix(f"{STRATEGY}{name}.")] = value
    return {name: strategies[name] for name in flat.get("ladder", "").split(LADDER) if name in strategies}, rest


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a trained stage is not started over."""

    message: str
    """What was edited, in one line."""
    ways_on: tuple[str, ...]
    """What a person can do, each in one line."""


def refusal(stage: str, was: Recipe | None, ladder: Sequence[Recipe], tokens: int) -> Refusal:
    """Say what of a trained stage was edited, and the legal ways on with what they cost."""
    trained = approximate_tokens(tokens)
    ways = (
        "revert the edit, and the stage is as it was",
        f"leave the legs that were trained as they are and add legs after them, with more tokens for {stage}; that is "
        "also how a budget is extended",
        f"leave {stage} and add one after it with the new recipe",
        f"give the edited stage a new name: it trains anew beside {stage}, whose {trained} tokens are set aside",
    )
    if was is None:
        return Refusal(f"{trained} tokens were trained by a recipe that cannot be read back", ways[2:])
    nearest = next((recipe for recipe in ladder if recipe.strategy == was.strategy), ladder[0])
    differences = recipe_changes(was, nearest)
    told = ", ".join(f"{path} {before} → {after}" for path, before, after in differences[:TOLD_CHANGES_MAX])
    if len(differences) > TOLD_CHANGES_MAX:
        told += f" and {len(differences) - TOLD_CHANGES_MAX} more"
    source, other = was.source, nearest.source
    if (source.stage, source.external) != (other.stage, other.external):
        named = f"source {source.stage or source.external or 'random'} → {other.stage or other.external or 'random'}"
        told = f"{named}, {told}" if told else named
    elif source.attempt != other.attempt and not told:
        # Nobody edited it: an earlier stage is passed by another attempt than it started from.
        return Refusal(
            f"{was.strategy} starts from another attempt of {other.stage} now, after {trained} tokens had been trained",
            (f"let {other.stage} be passed by {source.attempt} again, and {stage} is as it was", *ways[2:]),
        )
    return Refusal(
        f"{was.strategy} was edited after {trained} tokens had been trained: {told or 'its data lists'}", ways
    )


def refused_choice(stage: str, was: str, now: str, tokens: int) -> Refusal:
    """Say that the choice of a trial came after another variant had begun."""
    trained = approximate_tokens(tokens)
    return Refusal(
        f"{now} is chosen after {was} had been chosen and {trained} tokens of it trained",
        (
            f"write `chosen: {was}` again, and the stage is as it was",
            f"leave {stage} and add one after it, by another strategy",
            f"give the edited stage a new name: it trains anew beside {stage}, whose {trained} tokens are set aside",
        ),
    )


def recipe_changes(was: Recipe, now: Recipe) -> list[tuple[str, str, str]]:
    """(path, before, after) for every leaf that a person wrote and that differs."""
    before, after = _flat(_written(was)), _flat(_written(now))
    paths = [*before, *(path for path in after if path not in before)]
    return [
        (path, before.get(path, "absent"), after.get(path, "absent"))
        for path in paths
        if before.get(path) != after.get(path)
    ]


def _written(recipe: Recipe) -> dict[str, Any]:
    """The recipe less what is computed from the rest: shares follow from weights, iterations from tokens."""
    body = asdict(recipe)
    legs = body.pop("legs")
    for label in ("campaign", "stage", "strategy", "version", "source", "accumulation", "pilot", "rate_scale", "taken"):
        body.pop(label)
    for leg in legs:
        for computed in ("mixture", "position", "iterations"):
            leg.pop(computed)
        for computed in ("start", "end"):
            leg["curve"].pop(computed)
        leg["weights"] = leg.pop("terms")
        leg["lists"] = {symbol: f"content {digest[:12]}" for symbol, digest in leg["lists"].items()}
    named = legs[0] if len(legs) == 1 else {f"leg {index}": leg for index, leg in enumerate(legs)}
    return {**named, **body} if len(legs) > 1 else {**body, **named}


def _wants(desired: Desired) -> dict[str, dict[str, str]]:
    name = desired.spec.cluster
    datasets = {
        symbol: _plain(data.spec, exclude={"lists": {k for k in data.spec.lists if k != name}})
        for symbol, data in desired.catalog.datasets(desired.campaign).items()
    }
    shared = {
        "campaign": _plain(desired.spec),
        "model": _plain(desired.model),
        "cluster": _plain(desired.cluster),
        "datasets": datasets,
    }
    wants = {CAMPAIGN: _flat(shared)}
    for stage in desired.stages:
        wants[stage.metadata.name] = _flat(_by_strategy(_plain(stage.spec)))
    return wants


def _plain(spec: Frozen, exclude: Any = None) -> dict[str, Any]:
    """A spec in the words that a person writes it in."""
    return spec.model_dump(mode="json", by_alias=True, exclude=exclude)


def _by_strategy(spec: dict[str, Any]) -> dict[str, Any]:
    """Strategies by name rather than by place, so that one put on top is one change."""
    strategies = spec.pop("strategies")
    ladder = LADDER.join(strategy["name"] for strategy in strategies)
    named = {strategy.pop("name"): strategy for strategy in strategies}
    return {"ladder": ladder, **spec, **{f"{STRATEGY}{key}": value for key, value in named.items()}}


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """Nested mappings and lists → dotted path → text of the leaf; what is null is not there."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {path: str(value)}
    flat: dict[str, str] = {}
    for key, item in items:
        flat |= _flat(item, f"{path}.{key}" if path else key)
    return flat
