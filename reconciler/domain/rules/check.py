"""Every rule over one campaign, and what is waived: findings as problems, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from reconciler.domain.catalog import Catalog
from reconciler.domain.rules import amounts, decay, fixed, ladder, means, mixtures, plateau, replay, sources, waiving
from reconciler.domain.rules.rule import Finding, Rule
from reconciler.domain.rules.view import CampaignView, LoggedRate, view_of
from reconciler.model.manifests import Manifest, StageManifest
from reconciler.model.problems import Path, Problem, near, ordered
from reconciler.model.strategy import Waiver

FAMILIES: Final = (sources, fixed, amounts, mixtures, replay, ladder, plateau, decay, means, waiving)
RULES: Final[tuple[Rule, ...]] = tuple(rule for family in FAMILIES for rule in family.RULES)
"""Every rule, in order."""
BY_CODE: Final = {rule.code: rule for rule in RULES}


@dataclass(frozen=True, slots=True)
class _Placed:
    """A waiver and how far it reaches."""

    waiver: Waiver
    of: Manifest
    path: Path

    def covers(self, rule: Rule, finding: Finding) -> bool:
        """Whether it speaks of this finding: the campaign's of all, a stage's of those in the stage."""
        if self.waiver.rule != rule.code:
            return False
        if not isinstance(self.of, StageManifest):
            return True
        around = self.path[:-2]  # without `waive` and its number: `spec`, or the strategy
        return finding.of is self.of and finding.path[: len(around)] == around


def findings(catalog: Catalog, campaign: str) -> tuple[Problem, ...]:
    """What the rules say of a campaign's manifests; every reference of it must hold."""
    view = view_of(catalog, campaign)
    waivers = tuple(_waivers(view))
    found = [
        (rule, finding) for rule in RULES if not rule.observed for finding in rule.check(view) if not _over(finding)
    ]
    found += [(waiving.STALE, finding) for finding in _stale(waivers, found)]
    found += [(waiving.UNKNOWN, finding) for finding in _unknown(waivers)]
    return _problems(catalog, found, waivers)


def observed(catalog: Catalog, campaign: str, logged: Mapping[str, LoggedRate]) -> tuple[Problem, ...]:
    """What they say of what was logged."""
    view = view_of(catalog, campaign, logged)
    found = [(rule, finding) for rule in RULES if rule.observed for finding in rule.check(view)]
    return _problems(catalog, found, tuple(_waivers(view)))


def _over(finding: Finding) -> bool:
    """Whether it is about a stage that was trained before there were manifests: nothing can be done about it."""
    return isinstance(finding.of, StageManifest) and finding.of.spec.adopted is not None


def _problems(
    catalog: Catalog, found: Iterable[tuple[Rule, Finding]], waivers: tuple[_Placed, ...]
) -> tuple[Problem, ...]:
    return ordered(_problem(catalog, rule, finding, waivers) for rule, finding in found)


def _problem(catalog: Catalog, rule: Rule, finding: Finding, waivers: tuple[_Placed, ...]) -> Problem:
    covering = [placed for placed in waivers if placed.covers(rule, finding)]
    return Problem(
        code=rule.code,
        where=catalog.where(finding.of, *finding.path, key=finding.key),
        detail=finding.detail,
        found=finding.found,
        expected=finding.expected,
        fix=finding.fix or rule.todo,
        related=tuple((catalog.where(of, *path), what) for of, path, what in finding.related),
        rule=rule.kind,
        waived=covering[-1].waiver.reason if covering else None,  # the one nearest to it
    )


def _waivers(view: CampaignView) -> Iterator[_Placed]:
    """All of a campaign, wider ones first."""
    for number, waiver in enumerate(view.manifest.spec.waive):
        yield _Placed(waiver, view.manifest, ("spec", "waive", number))
    for stage in view.stages:
        for number, waiver in enumerate(stage.manifest.spec.waive):
            yield _Placed(waiver, stage.manifest, ("spec", "waive", number))
        for rung in stage.rungs:
            for number, waiver in enumerate(rung.spec.waive):
                yield _Placed(waiver, stage.manifest, (*rung.path, "waive", number))


def _stale(waivers: Iterable[_Placed], found: list[tuple[Rule, Finding]]) -> Iterator[Finding]:
    """Waivers of rules that find nothing where they reach; what is observed shows only at a look."""
    for placed in waivers:
        rule = BY_CODE.get(placed.waiver.rule)
        if rule is None or rule.observed or any(placed.covers(*each) for each in found):
            continue
        yield Finding(placed.of, (*placed.path, "rule"), f"{rule.code} ({rule.name}) finds nothing here")


def _unknown(waivers: Iterable[_Placed]) -> Iterator[Finding]:
    for placed in waivers:
        code = placed.waiver.rule
        if code not in BY_CODE:
            meant = near(code, BY_CODE)
            fix = f"Did you mean {meant} ({BY_CODE[meant].name})?" if meant else None
            yield Finding(placed.of, (*placed.path, "rule"), code, code, "a rule that `reconcile explain` lists", fix)
