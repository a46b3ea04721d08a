"""Views for programs: the human views' values as versioned JSON. Fields may be added; none is renamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from reconciler.cli.problems import as_data
from reconciler.cli.reproducing import Again
from reconciler.cluster.doctor_report import Check, Status
from reconciler.domain.ledger import by_source, tokens, whole
from reconciler.model.plan import Plan
from reconciler.planner.difference import StageDifference
from reconciler.planner.index import Index
from reconciler.planner.ledger import Answer, Asked, Entry, Part
from reconciler.planner.shown import Shown
from reconciler.planner.timeline import Timeline
from reconciler.planner.why import Why
from reconciler.simulate.run import Simulation

FORMAT_VERSION: Final = "1.0"


def plan_json(plan: Plan, scripts: Mapping[str, str]) -> str:
    """A plan with its digest and the scripts that it would submit."""
    body: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "digest": plan.digest,
        "done": plan.done,
        **asdict(plan),
        "findings": [as_data(problem) for problem in plan.findings],
        "scripts": dict(scripts),
    }
    for action, value in zip(plan.actions, body["actions"], strict=True):
        value["key"] = str(action.key)
        del value["trains"]  # the recipe is in the action's files
    return _sealed(_plain(body))


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """What JSON has. It has no NaN and no infinity: a loss that is none is null, as one that is not there."""
    plain: dict[str, Any] = json.loads(json.dumps(body, default=str), parse_constant=lambda constant: None)
    return plain


def _sealed(body: dict[str, Any]) -> str:
    """The text with a seal over all of it: what is carried out is what was read, so an edit must not go unnoticed."""
    return json.dumps(body | {"seal": _seal(body)}, indent=2, sort_keys=True) + "\n"


def _seal(body: dict[str, Any]) -> str:
    text = json.dumps({key: body[key] for key in body if key != "seal"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def status_json(plan: Plan) -> str:
    """Stages with phases, conditions, rungs and losses."""
    body = {
        "format_version": FORMAT_VERSION,
        "campaign": plan.campaign,
        "revision": plan.revision,
        "dirty": plan.dirty,
        "done": plan.done,
        "stages": [asdict(status) for status in plan.stages],
        "retained": asdict(plan.retained),
        "approval": asdict(plan.approval),
    }
    return json.dumps(_plain(body), indent=2, sort_keys=True) + "\n"


def simulation_json(made: Simulation) -> str:
    """What would happen, with every step; times in seconds since the beginning."""
    body = {"format_version": FORMAT_VERSION, **asdict(made)}
    for step, value in zip(made.steps, body["steps"], strict=True):
        value["key"], value["kind"], value["stage"] = str(step.key), step.key.kind, step.key.stage
    return json.dumps(_plain(body), indent=2, sort_keys=True) + "\n"


def why_json(chain: Why) -> str:
    """Why a stage is where it is."""
    return json.dumps(_plain({"format_version": FORMAT_VERSION, **asdict(chain)}), indent=2, sort_keys=True) + "\n"


def history_json(timelines: Sequence[Timeline]) -> str:
    """What happened, attempt by attempt, a campaign in a workspace each."""
    body = {"format_version": FORMAT_VERSION, "timelines": [asdict(each) for each in timelines]}
    return json.dumps(_plain(body), indent=2, sort_keys=True) + "\n"


def shown_json(found: Shown, made: Sequence[Again]) -> str:
    """One attempt, and whether it can be made again."""
    again = [{**asdict(each), "same": each.same} for each in made]
    body = {"format_version": FORMAT_VERSION, **asdict(found), "made_again": again}
    return json.dumps(_plain(body), indent=2, sort_keys=True) + "\n"


def difference_json(campaign: str, found: Sequence[StageDifference], scripts: Mapping[str, Sequence[str]]) -> str:
    """Two revisions compared, stage by stage; `scripts` holds unified differences."""
    stages = []
    for stage in found:
        body = asdict(stage)
        for rung in body["rungs"]:
            for side in ("before", "after"):
                if rung[side] is not None:
                    del rung[side]["jobs"]
        stages.append(body | {"scripts": list(scripts.get(stage.stage, ()))})
    told = {"format_version": FORMAT_VERSION, "campaign": campaign, "stages": stages}
    return json.dumps(_plain(told), indent=2, sort_keys=True) + "\n"


def doctor_json(cluster: str, checks: Sequence[Check]) -> str:
    """What the doctor found at a cluster."""
    body = {
        "format_version": FORMAT_VERSION,
        "cluster": cluster,
        "failed": any(check.status is Status.FAILED for check in checks),
        "checks": [asdict(check) for check in checks],
    }
    return json.dumps(body, indent=2, sort_keys=True) + "\n"


def checkpoints_json(found: Index) -> str:
    """Every checkpoint, folder by folder."""
    body = {"format_version": FORMAT_VERSION, "campaign": found.campaign, "folders": [asdict(g) for g in found.groups]}
    return json.dumps(_plain(body), indent=2, sort_keys=True) + "\n"


def ledger_json(answer: Answer) -> str:
    """The ledger in whole tokens that add up, and epochs."""
    point, drawn = answer.checkpoint, answer.books.drawn
    body = {
        "format_version": FORMAT_VERSION,
        "campaign": answer.campaign,
        "checkpoint": None
        if point is None
        else {
            "stage": point.stage,
            "attempt": point.attempt,
            "leg": point.leg,
            "iteration": point.iteration,
            "origin": point.origin,
        },
        "tokens_drawn": tokens(drawn),
        "tokens_seen": None if point is None else tokens(answer.seen),
        "sources": [
            {
                "source": label,
                "size": size,
                "drawn": all_of,
                "drawn_epochs": _epochs(all_of, size),
                "seen": None if point is None else by_it,
                "seen_epochs": None if point is None else _epochs(by_it, size),
            }
            for label, size, all_of, by_it in answer.sources
        ],
        "attempts": [_entry_data(entry, answer) for entry in answer.books.entries],
        "asked": _asked_data(answer.asked) if answer.asked is not None else None,
        "unknown": list(answer.books.unknown),
    }
    return json.dumps(body, indent=2, sort_keys=True) + "\n"


def _entry_data(entry: Entry, answer: Answer) -> dict[str, Any]:
    seen = {(part.attempt, part.leg): part.iterations for part in answer.seen}
    return {
        "stage": entry.stage,
        "attempt": entry.attempt,
        "strategy": entry.strategy,
        "outcome": entry.outcome,
        "tokens": tokens(entry.drawn),
        "iterations_lost": entry.lost,
        "legs": [
            {
                "leg": part.leg,
                "iterations": part.iterations,
                "tokens": part.tokens,
                "sources": whole(by_source([part]), part.tokens),
                "iterations_seen": seen.get((part.attempt, part.leg), 0),
            }
            for part in entry.drawn
        ],
    }


def _asked_data(asked: Asked) -> dict[str, Any]:
    size = round(asked.size)

    def part(of: Part) -> dict[str, Any]:
        return {
            "tokens": round(of.tokens),
            "epochs": _epochs(round(of.tokens), size),
            "unknown": [f"{one[1]} in leg {one[0].leg} of {one[0].stage}/{one[0].attempt}" for one in of.unknown],
        }

    return {
        asked.kind: asked.name,
        "in": list(asked.found),
        "size": size,
        "drawn": part(asked.drawn),
        "seen": None if asked.seen is None else part(asked.seen),
        "taints": [
            {
                "stage": taint.entry.stage,
                "attempt": taint.entry.attempt,
                "strategy": taint.entry.strategy,
                "outcome": taint.entry.outcome,
                "sure": taint.sure,
                "own_tokens": round(taint.own.tokens),
                "inherited_tokens": round(taint.inherited.tokens),
            }
            for taint in asked.taints
        ],
    }


def _epochs(count: int, size: int | None) -> float | None:
    return round(count / size, 6) if size else None


class NotAPlan(ValueError):
    """A file that `plan -o` did not write, or a version of one that this program does not read."""


def saved_plan(text: str) -> tuple[str, str, dict[str, str]]:
    """(campaign, digest, facts and actions in words) of a saved plan.

    Raises:
        NotAPlan: not one, or of another major version.
    """
    try:
        body = json.loads(text)
        version, campaign, digest = str(body["format_version"]), str(body["campaign"]), str(body["digest"])
        facts = {f"stage {name}": str(fact) for name, fact in dict(body["facts"]).items()}
        actions = {f"action {action['key']}": str(action["summary"]) for action in body["actions"]}
        sealed = body["seal"] == _seal(body)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotAPlan("this is not a plan that `reconcile plan -o FILE` wrote") from error
    if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        raise NotAPlan(f"the plan has format {version}; this version reads {FORMAT_VERSION}")
    if not sealed:
        raise NotAPlan("this plan was changed after it was saved; what it says is not what would be done")
    return campaign, digest, facts | actions


def told(plan: Plan) -> dict[str, str]:
    """What `saved_plan` gives, of a plan in hand: to say what changed between the two."""
    facts = {f"stage {name}": fact for name, fact in plan.facts.items()}
    return facts | {f"action {action.key}": action.summary for action in plan.actions}
