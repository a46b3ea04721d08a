"""CPT006 to CPT009: what is held fixed, as far as it shows how an external checkpoint was made.

Within a campaign nothing of it can differ: its stages have one Model. What a strategy may change is its batch (CPT070).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from pydantic.alias_generators import to_camel

from reconciler.domain.foldername import FolderName, of_path
from reconciler.domain.rules.rule import Finding, rate, rule
from reconciler.domain.rules.sources import source_path, sources
from reconciler.domain.rules.view import CampaignView, RungView, StageView
from reconciler.model.problems import Severity
from reconciler.model.strategy import ExternalSource

ROPE_DEFAULT: Final = 50000
"""ROPE_THETA's default since August 2025 (launcher contract, 1.2)."""


def _folders(view: CampaignView) -> Iterator[tuple[StageView, RungView, ExternalSource, FolderName]]:
    for stage, rung in sources(view):
        if isinstance(rung.source, ExternalSource):
            found = of_path(rung.source.path)
            if found is not None:
                yield stage, rung, rung.source, found


_FOLDER_SOURCES: Final = (
    "cookbook, introduction: architecture, sequence length and optimizer are held fixed",
    "launcher contract, 1.3: folder names",
)


@rule(
    "CPT006",
    "other-model-than-source",
    Severity.ERROR,
    "The external checkpoint's folder names another model",
    why="""Architecture, sequence length, precision and optimizer are held fixed over all stages. The launcher's folder
        names say what a checkpoint was made with; loaded as something else it fails, or it loads and starts near
        ln(vocabulary).""",
    todo="Write the Model as the checkpoint was made, or give the folder of the right checkpoint.",
    sources=_FOLDER_SOURCES,
    good="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source:
            path: /old/ws768_ds_stage1_nl12_hs2048_mb1_seq2048_gb1024_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash
            checkpoint: {iteration: 4000}
            format: universal
            rate: 2e-4
            trainedOn: [d0]
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source:
            path: /old/ws768_ds_stage1_nl32_hs4096_mb1_seq2048_gb1024_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash  # <-
            checkpoint: {iteration: 4000}
            format: universal
            rate: 2e-4
            trainedOn: [d0]
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
)
def _cpt006(view: CampaignView) -> Iterator[Finding]:
    model = view.model.spec
    for stage, rung, source, folder in _folders(view):
        pairs = [
            ("layers", str(folder.layers), str(model.architecture.layers)),
            ("hidden", str(folder.hidden), str(model.architecture.hidden)),
            ("sequence length", str(folder.sequence_length), str(model.sequence_length)),
            ("precision", folder.precision, model.precision),
            ("optimizer", folder.optimizer or model.optimizer.name, model.optimizer.name),
            ("tensor-parallel size", str(folder.tensor), str(model.parallelism.tensor)),
            ("pipeline-parallel size", str(folder.pipeline), str(model.parallelism.pipeline)),
        ]
        if source.data_parallel is not None:
            pairs.append(("data-parallel size", str(folder.data_parallel), str(source.data_parallel)))
        other = [(what, was, now) for what, was, now in pairs if was != now]
        if other:
            detail = f"the source of stage {stage.name} was made with other {', '.join(what for what, _, _ in other)}"
            found = ", ".join(f"{what} {was}" for what, was, _ in other)
            expected = ", ".join(f"{what} {now}" for what, _, now in other)
            there = (view.model, ("spec", "architecture"), f"model {view.model.metadata.name}")
            yield Finding(stage.manifest, (*source_path(rung), "path"), detail, found, expected, related=(there,))


@rule(
    "CPT007",
    "other-batch-than-source",
    Severity.WARNING,
    "Another batch than the external checkpoint was trained with",
    why="""The batch is held fixed; changed by a factor k, the learning rate goes with it by √k or k. Nothing in the
        launcher ties the two.""",
    todo="Write the Model's batch as in the checkpoint's folder name, or scale LR max and waive this with the factor.",
    sources=("cookbook, Things to keep in mind", "arXiv 2205.10287: √k for Adam", *_FOLDER_SOURCES),
    good="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source:
            path: /old/ws768_ds_stage1_nl12_hs2048_mb1_seq2048_gb1024_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash
            checkpoint: {iteration: 4000}
            format: universal
            rate: 2e-4
            trainedOn: [d0]
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
    bad="""
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source:
            path: /old/ws768_ds_stage1_nl12_hs2048_mb1_seq2048_gb3072_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash  # <-
            checkpoint: {iteration: 4000}
            format: universal
            rate: 2e-4
            trainedOn: [d0]
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
)
def _cpt007(view: CampaignView) -> Iterator[Finding]:
    for stage, rung, _, folder in _folders(view):
        was = folder.global_batch
        now = Fraction(view.model.spec.batch.global_) * Fraction(rung.spec.batch.times if rung.spec.batch else 1)
        if was and now != was:
            factor = float(now / was)
            scaled = f"{rate(view.lr_max)} × {factor**0.5:.3g} or × {factor:.3g}, were it the same schedule"
            detail = f"k = {factor:.3g} at stage {stage.name}"
            yield Finding(
                stage.manifest,
                (*source_path(rung), "path"),
                detail,
                f"global batch {now}, after {was}",
                f"a rate scaled with it: {scaled}",
            )


@rule(
    "CPT008",
    "legacy-defaults",
    Severity.WARNING,
    "A checkpoint of the old folder scheme under today's defaults",
    why="""Folders named with underscores were made before August 2025, when the launcher's rope base was 10000 and its
        tokenizer Llama2Tokenizer. With today's defaults the load succeeds and the loss starts near ln(vocabulary).""",
    todo="For the legacy 7B write ropeTheta: 10000 and the tokenizer Llama2Tokenizer, ALCF/tokenizer.model.",
    sources=("launcher contract, 1.2 (ROPE_THETA, TOKENIZER_TYPE) and 2.3 (legacy agpt-7B)",),
    good="""
        kind: Model
        metadata: {name: base}
        spec: {architecture: {ropeTheta: 10000}}
        ---
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source:
            path: /old/ws768_ds_stage1_nl12_hs2048_mb1_seq2048_gb1024_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash
            checkpoint: {iteration: 4000}
            format: universal
            rate: 2e-4
            trainedOn: [d0]
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
    bad="""
        kind: Model
        metadata: {name: base}
        spec: {architecture: {ropeTheta: 50000}}    # <-
        ---
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source:
            path: /old/ws768_ds_stage1_nl12_hs2048_mb1_seq2048_gb1024_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash
            checkpoint: {iteration: 4000}
            format: universal
            rate: 2e-4
            trainedOn: [d0]
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """,
)
def _cpt008(view: CampaignView) -> Iterator[Finding]:
    for stage, _, _, folder in _folders(view):
        if not folder.old:
            continue
        for path, said in (
            (("spec", "architecture", "ropeTheta"), view.model.spec.architecture.rope_theta == ROPE_DEFAULT),
            (("spec", "tokenizer"), view.model.spec.tokenizer.model.startswith("google/gemma")),
        ):
            if said:
                yield Finding(view.model, path, f"{path[-1]} for the source of stage {stage.name}")


_OTHER_MODEL: Final = """
        kind: Stage
        metadata: {name: stage-1}
        spec:
          source:
            path: workspace/pretraining/base-run/0123456789ab/leg-0
            checkpoint: {iteration: 4000}
            format: universal
            rate: 2e-4
            trainedOn: [d0]
          strategies: [{name: more, legs: [{mixture: {D0: 1}, lr: {shape: constant}}]}]
        """
_HELD_FIXED: Final = ("architecture", "tokenizer", "sequence_length", "optimizer", "precision", "seed")


@rule(
    "CPT009",
    "other-model-than-campaign-before",
    Severity.WARNING,
    "The source was made by a campaign with another Model",
    why="""Within a campaign nothing of the Model can change. Where one campaign continues from a checkpoint of another,
        their Models should agree in all that is held fixed: down to the rope base and precision, which break a load;
        the seed, which draws the data's order; and the validation sets, without which no loss can be compared.""",
    todo="Name the same Model in both campaigns, or waive this with what is explored.",
    sources=("cookbook, introduction: what is held fixed across all runs; validation tasks fixed from the start",),
    good=_OTHER_MODEL,
    bad=_OTHER_MODEL.replace("0123456789ab/leg-0", "0123456789ab/leg-0    # <- of campaign pretraining")
    + """---
        kind: Model
        metadata: {name: base-0}
        spec: {seed: 42, architecture: {ropeTheta: 50000}}
        """,
)
def _cpt009(view: CampaignView) -> Iterator[Finding]:
    workspace, names = view.cluster.spec.workspace, set(view.catalog.campaigns) - {view.name}
    for stage, rung in sources(view):
        if not isinstance(rung.source, ExternalSource):
            continue
        inside = rung.source.path.removeprefix(f"{workspace}/").split("/")[0]
        if not rung.source.path.startswith(f"{workspace}/") or inside not in names:
            continue
        made_with = view.catalog.campaign(inside).spec.model
        if made_with not in view.catalog.models:
            continue
        other = view.catalog.model_of(inside)
        differ = [name for name in _HELD_FIXED if getattr(other.spec, name) != getattr(view.model.spec, name)]
        # What was held out before must be so still; sets of later data come with it.
        if any(held_out not in view.model.spec.validation.sets for held_out in other.spec.validation.sets):
            differ.append("validation")
        if differ:
            there = (other, ("spec",), f"the Model of campaign {inside}")
            detail = f"stage {stage.name} continues from campaign {inside}"
            found = f"{', '.join(to_camel(name) for name in differ)} of Model {made_with}"
            expected = f"as in Model {view.model.metadata.name}"
            path = (*source_path(rung), "path")
            yield Finding(stage.manifest, path, detail, found, expected, related=(there,))


RULES: Final = (_cpt006, _cpt007, _cpt008, _cpt009)
