"""What only several manifests together can show: names that lead somewhere, order of stages, data that is there yet.

Faults of order are looked for only in a campaign whose references all hold, so that one misspelt name is one problem.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from reconciler.domain import asked, composed, consistency, ladder
from reconciler.domain.catalog import Catalog, Object, source_places
from reconciler.model.manifests import BUFFER, CampaignManifest, DatasetManifest, Manifest, ModelManifest, StageManifest
from reconciler.model.problems import Path, Problem, near, one_of, path_text
from reconciler.model.strategy import ExternalSource, StageSource


@dataclass(frozen=True, slots=True)
class Unread:
    """Objects that may be there but could not be read: a reference to one of them is not reported."""

    names: frozenset[str] = frozenset()
    """Objects of any kind with these names."""
    kinds: frozenset[str] = frozenset()
    """Objects of these kinds with any name."""

    @classmethod
    def all(cls, several: Iterable[Unread]) -> Unread:
        """All of several."""
        each = list(several)
        names, kinds = [one.names for one in each], [one.kinds for one in each]
        return cls(frozenset().union(*names), frozenset().union(*kinds))

    def may_hold(self, kind: str, name: str) -> bool:
        """Whether such an object may be among them."""
        return name in self.names or kind in self.kinds


def check(catalog: Catalog, elsewhere: Unread) -> list[Problem]:
    """All problems between the objects of a catalog, and inside objects beyond their shape.

    Of a faulty document what is left is checked, but nothing that builds on a doubtful value.
    """
    problems = list(_duplicates(catalog))
    for item in catalog.objects:
        match item.manifest:
            case CampaignManifest():
                problems += _campaign(catalog, item.manifest, elsewhere)
                problems += consistency.campaign(catalog, item.manifest)
            case StageManifest():
                problems += _stage(catalog, item.manifest, elsewhere)
                problems += consistency.stage(catalog, item.manifest)
                problems += ladder.stage(catalog, item.manifest)
            case ModelManifest():
                problems += consistency.model(catalog, item.manifest)
            case _:
                pass
    for name in catalog.campaigns:
        if holds_together(catalog, name) and _settled(catalog, name):
            problems += _order(catalog, name)
            problems += _data(catalog, name)
            problems += composed.buffer(catalog, name)
            problems += asked.targets(catalog, name)
            problems += ladder.campaign(catalog, name)
        problems += consistency.on_cluster(catalog, name)
    return problems


def _duplicates(catalog: Catalog) -> Iterator[Problem]:
    first: dict[tuple[str, str, str], Object] = {}
    for item in catalog.objects:
        manifest = item.manifest
        if not catalog.is_named(manifest):
            continue
        campaign = manifest.spec.campaign if isinstance(manifest, StageManifest) else ""
        identity = (manifest.kind, campaign, manifest.metadata.name)
        earlier = first.setdefault(identity, item)
        if earlier is not item:
            of = f" of campaign {campaign}" if campaign else ""
            there = earlier.document.where(("metadata", "name"))
            yield Problem(
                "M040",
                item.document.where(("metadata", "name")),
                f"{manifest.kind} {manifest.metadata.name}{of}",
                fix="Rename or remove one of the two.",
                related=((there, "first defined here"),),
            )


# --- references ------------------------------------------------------------------------------------------------------


def _dangling(
    catalog: Catalog, of: Manifest, path: Path, kind: str, name: str, known: Collection[str], elsewhere: Unread
) -> Iterator[Problem]:
    if name in known or elsewhere.may_hold(kind, name) or catalog.doubts(of, *path):
        return
    meant = near(name, known)
    expected = f"the name of a {kind}" + (f": {one_of(known)}" if known else ", of which there is none")
    fix = f"Did you mean {meant}?" if meant else None
    yield Problem("M041", catalog.where(of, *path), f"{kind} {name} ({path_text(path)})", name, expected, fix)


def _campaign(catalog: Catalog, campaign: CampaignManifest, elsewhere: Unread) -> Iterator[Problem]:
    name, spec = campaign.metadata.name, campaign.spec
    yield from _dangling(catalog, campaign, ("spec", "model"), "Model", spec.model, catalog.models, elsewhere)
    yield from _dangling(catalog, campaign, ("spec", "cluster"), "Cluster", spec.cluster, catalog.clusters, elsewhere)
    known = catalog.stage_names(name)
    for index, stage in enumerate(spec.stages):
        path: Path = ("spec", "stages", index)
        if spec.stages.index(stage) < index:
            yield Problem("M042", catalog.where(campaign, *path), f"stage {stage} is listed twice")
        elif stage not in known and not elsewhere.may_hold("Stage", stage) and (others := _others(catalog, stage)):
            for manifest in others:
                other = manifest.spec.campaign
                if other in catalog.campaigns:  # else the stage's own reference is what is wrong
                    strayed = stage not in _listed(catalog, other)
                    yield Problem(
                        "M042",
                        catalog.where(campaign, *path),
                        f"stage {stage} is listed here but belongs to campaign {other}",
                        expected=f"campaign: {name} in the stage" if strayed else f"a stage of campaign {name}",
                        related=((catalog.where(manifest, "spec", "campaign"), "the stage names its campaign here"),),
                    )
        else:
            yield from _dangling(catalog, campaign, path, "Stage", stage, known, elsewhere)


def _others(catalog: Catalog, stage: str) -> list[StageManifest]:
    """Stages of a name in other campaigns: those that their campaign does not list, if any, are probably meant."""
    named = [
        item.manifest
        for item in catalog.objects
        if isinstance(item.manifest, StageManifest)
        and item.manifest.metadata.name == stage
        and catalog.is_named(item.manifest)
    ]
    return [manifest for manifest in named if stage not in _listed(catalog, manifest.spec.campaign)] or named


def _listed(catalog: Catalog, campaign: str) -> tuple[str, ...]:
    return catalog.campaign(campaign).spec.stages if campaign in catalog.campaigns else ()


def _stage(catalog: Catalog, stage: StageManifest, elsewhere: Unread) -> Iterator[Problem]:
    name, spec = stage.metadata.name, stage.spec
    listed = _listed(catalog, spec.campaign)
    # A campaign that lists a stage which names another campaign has said so already.
    claimed = any(
        name in _listed(catalog, other) for other in catalog.campaigns if name not in catalog.stage_names(other)
    )
    if spec.campaign not in catalog.campaigns:
        path: Path = ("spec", "campaign")
        yield from _dangling(catalog, stage, path, "Campaign", spec.campaign, catalog.campaigns, elsewhere)
    elif name not in listed and not claimed and catalog.is_named(stage) and _is_complete(catalog, spec.campaign):
        campaign = catalog.campaign(spec.campaign)
        yield Problem(
            "M042",
            catalog.where(stage, "spec", "campaign"),
            f"campaign {spec.campaign} does not list stage {name}",
            expected=f"{name} among its stages: {one_of(listed)}",
            fix="Add it to the campaign's stages, where it belongs in their order, or remove it.",
            related=((catalog.where(campaign, "spec", "stages"), "the campaign's stages"),),
        )
    datasets = catalog.dataset_names
    yield from _dangling(catalog, stage, ("spec", "dataset"), "Dataset", spec.dataset, datasets, elsewhere)
    for at, source in source_places(stage):
        match source:
            case StageSource(stage=of) if name in listed and _is_complete(catalog, spec.campaign):
                known = {*listed, *catalog.stage_names(spec.campaign)}
                yield from _dangling(catalog, stage, (*at, "stage"), "Stage", of, sorted(known), elsewhere)
            case ExternalSource(trained_on=trained_on):
                for index, dataset in enumerate(trained_on):
                    yield from _dangling(
                        catalog, stage, (*at, "trainedOn", index), "Dataset", dataset, datasets, elsewhere
                    )
            case _:
                pass


def _is_complete(catalog: Catalog, campaign: str) -> bool:
    """Whether all that a campaign lists could be read."""
    return not catalog.doubts(catalog.campaign(campaign), "spec", "stages")


def holds_together(catalog: Catalog, campaign: str) -> bool:
    """Whether every reference of a campaign and its stages leads somewhere."""
    try:
        catalog.model_of(campaign), catalog.cluster_of(campaign), catalog.datasets(campaign)
    except KeyError:
        return False
    return True


def _settled(catalog: Catalog, campaign: str) -> bool:
    """Whether it is known which data comes when: the order of stages, their datasets, and their symbols."""
    doubts = catalog.doubts
    return _is_complete(catalog, campaign) and not any(
        doubts(stage, "spec", "dataset")
        or any(doubts(stage, *at, "trainedOn") for at, _ in source_places(stage))
        or any(doubts(dataset, "spec", "symbol") for dataset in catalog.brought_by(stage))
        for stage in catalog.stages(campaign)
    )


# --- order -----------------------------------------------------------------------------------------------------------


def _order(catalog: Catalog, campaign: str) -> Iterator[Problem]:
    stages = catalog.stages(campaign)
    for index, stage in enumerate(stages):
        earlier = [before.metadata.name for before in stages[:index]]
        for at, source in source_places(stage):
            yield from _source(catalog, stage, index, earlier, at, source)
        for rung, strategy in enumerate(stage.spec.strategies):
            for within, mixture in ladder.mixtures(strategy):
                path: Path = ("spec", "strategies", rung, *within)
                for term in mixture if not catalog.doubts(stage, *path) else ():
                    yield from _term(catalog, campaign, stage, (*path, term), term, earlier)


def _source(
    catalog: Catalog, stage: StageManifest, index: int, earlier: list[str], at: Path, source: object
) -> Iterator[Problem]:
    if catalog.doubts(stage, *at, "stage"):
        return
    expected = f"an earlier stage: {one_of(earlier)}" if earlier else "random or an external checkpoint"
    own, listed = stage.metadata.name, _listed(catalog, stage.spec.campaign)
    # A stage that is not there at all has been told as such.
    known = {*listed, *catalog.stage_names(stage.spec.campaign)}
    if isinstance(source, StageSource) and source.stage in known and source.stage not in earlier:
        later = f"{source.stage}, which {'comes later' if source.stage in listed else 'the campaign does not list'}"
        what = "itself" if source.stage == own else later
        fix = f"Did you mean {earlier[-1]}?" if earlier else "Write source: random."
        where = catalog.where(stage, *at, "stage")
        yield Problem("M043", where, f"the source of stage {own} is {what}", source.stage, expected, fix)
    if source == "random" and index > 0:
        fix = f"Write source: {{stage: {earlier[-1]}}}."
        where = catalog.where(stage, *at)
        yield Problem("M057", where, f"stage {own}", "random", expected, fix)


def _term(
    catalog: Catalog, campaign: str, stage: StageManifest, path: Path, term: str, earlier: list[str]
) -> Iterator[Problem]:
    name = stage.metadata.name
    symbols = catalog.introduced(campaign, name)
    buffer = catalog.buffer_at(campaign, name)
    where = catalog.where(stage, *path, key=True)
    known = [*symbols, *earlier, *([BUFFER] if buffer else [])]
    if term in known:
        return
    expected = one_of(known)
    if term == BUFFER:
        detail = f"no stage before {name} leaves data in the buffer"
        yield Problem("M046", where, detail, term, expected, "Leave buffer out of this mixture.")
    elif term in catalog.datasets(campaign):
        owner = next(s for s in catalog.stages(campaign) if catalog.dataset_of(s).spec.symbol == term)
        detail = f"{term} comes with stage {owner.metadata.name}, after {name}"
        there = catalog.where(owner, "spec", "dataset")
        yield Problem("M045", where, detail, term, expected, related=((there, "introduced here"),))
    elif term in catalog.campaign(campaign).spec.stages:
        what = "itself" if term == name else "a later stage"
        yield Problem("M045", where, f"{term} is {what}; its mixture is not known yet", term, expected)
    else:
        meant = near(term, known)
        yield Problem("M044", where, term, term, expected, f"Did you mean {meant}?" if meant else None)


# --- data ------------------------------------------------------------------------------------------------------------


def _data(catalog: Catalog, campaign: str) -> Iterator[Problem]:
    """One symbol one dataset, one tokenizer, and a list on the cluster for everything that is used."""
    model, cluster = catalog.model_of(campaign), catalog.campaign(campaign).spec.cluster
    of_symbol: dict[str, DatasetManifest] = {}
    for stage in catalog.stages(campaign):
        for dataset in catalog.brought_by(stage):
            first = of_symbol.setdefault(dataset.spec.symbol, dataset)
            if first is not dataset:
                both = f"{first.metadata.name} and {dataset.metadata.name}"
                yield Problem(
                    "M052",
                    catalog.where(dataset, "spec", "symbol"),
                    f"{dataset.spec.symbol} in campaign {campaign} is {both}",
                    fix="Give one of the two another symbol.",
                    related=((catalog.where(first, "spec", "symbol"), "first used here"),),
                )
    used = {dataset.metadata.name: dataset for s in catalog.stages(campaign) for dataset in catalog.brought_by(s)}
    for dataset in used.values():
        if cluster not in dataset.spec.lists and not catalog.doubts(dataset, "spec", "lists"):
            what = f"dataset {dataset.metadata.name} on cluster {cluster} (campaign {campaign})"
            yield _no_list(catalog, dataset, ("spec", "lists"), what, cluster, dataset.spec.lists)
        unsure = catalog.doubts(dataset, "spec", "tokenizer") or catalog.doubts(model, "spec", "tokenizer")
        if dataset.spec.tokenizer != model.spec.tokenizer and not unsure:
            wanted, got = model.spec.tokenizer, dataset.spec.tokenizer
            yield Problem(
                "M050",
                catalog.where(dataset, "spec", "tokenizer"),
                f"dataset {dataset.metadata.name}, model {model.metadata.name}",
                f"{got.type} {got.model}",
                f"{wanted.type} {wanted.model}",
                related=((catalog.where(model, "spec", "tokenizer"), "the model's tokenizer"),),
            )
    for index, validation in enumerate(model.spec.validation.sets):
        path: Path = ("spec", "validation", "sets", index)
        if validation.of not in of_symbol and not catalog.doubts(model, *path, "of"):
            where = catalog.where(model, *path, "of")
            detail = f"dataset {validation.of} in campaign {campaign}, of which validation set {validation.name} is"
            yield Problem("M041", where, detail, validation.of, one_of(of_symbol))
        if cluster not in validation.lists and not catalog.doubts(model, *path, "lists"):
            what = f"validation set {validation.name} on cluster {cluster} (campaign {campaign})"
            yield _no_list(catalog, model, (*path, "lists"), what, cluster, validation.lists)


def _no_list(catalog: Catalog, of: Manifest, path: Path, what: str, cluster: str, there: Collection[str]) -> Problem:
    meant = near(cluster, there)
    fix = f"Is {meant} meant to be {cluster}?" if meant else None
    return Problem("M049", catalog.where(of, *path, key=True), what, one_of(there), f"{cluster}: {{path: …}}", fix)
