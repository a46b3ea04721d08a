"""What gates ask for by name must be there to be asked: validation sets that a stage's end is to reach a loss on."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.domain.catalog import Catalog
from reconciler.model.gates import Gates
from reconciler.model.manifests import CampaignManifest, StageManifest
from reconciler.model.problems import Problem, near, one_of


def targets(catalog: Catalog, campaign: str) -> Iterator[Problem]:
    """Every `target` of the campaign and of its stages names a validation set of the model."""
    model = catalog.model_of(campaign)
    if catalog.doubts(model, "spec", "validation", "sets"):
        return
    sets = [chosen.name for chosen in model.spec.validation.sets]
    manifest = catalog.campaign(campaign)
    yield from _targets(catalog, manifest, manifest.spec.gates, model.metadata.name, sets)
    for stage in catalog.stages(campaign):
        if stage.spec.gates is not None:
            yield from _targets(catalog, stage, stage.spec.gates, model.metadata.name, sets)


def _targets(
    catalog: Catalog, of: CampaignManifest | StageManifest, gates: Gates, model: str, sets: list[str]
) -> Iterator[Problem]:
    for label in gates.target:
        if label not in sets:
            meant = near(label, sets)
            yield Problem(
                "M041",
                catalog.where(of, "spec", "gates", "target", label, key=True),
                f"validation set {label} of model {model}",
                label,
                f"one of its validation sets: {one_of(sets)}",
                f"Did you mean {meant}?" if meant else None,
            )
