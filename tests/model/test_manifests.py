"""What the classes make of a document: exact values, and nothing that would be unsafe on a command line."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.model import source
from reconciler.model.cluster import LauncherSpec
from reconciler.model.fieldtypes import Frozen, ListOnCluster
from reconciler.model.gates import ExternalGate, Gates, Limits
from reconciler.model.manifests import CampaignManifest, ClusterManifest, ModelManifest, Selection, StageManifest
from reconciler.model.quantities import Rate
from reconciler.model.strategy import ExternalSource, StageSource, Trial, TrialMatrix, UsedStrategy
from reconciler.model.validation import PROBLEMS_MAX, manifest_of

ROOT = Path(__file__).parents[2] / "manifests"


def read(path: str, index: int = 0) -> object:
    document = source.read(path, (ROOT / path).read_bytes()).documents[index]
    manifest, problems, _ = manifest_of(document)
    assert problems == ()
    return manifest


def test_a_stage_holds_what_was_written() -> None:
    stage = read("auroragpt-v1/stage-3.yaml")
    assert isinstance(stage, StageManifest)
    assert stage.spec.tokens == 1_500_000_000_000
    assert stage.spec.source == StageSource(stage="stage-2", checkpoint="pre-cooldown")
    assert stage.spec.resources.walltime == Fraction(21_600)
    names = ["naive", "replay-5", "replay-30", "mix", "decay", "decay-cosine", "decay-figure", "rewarm"]
    assert [strategy.name for strategy in stage.spec.strategies] == names
    (leg,) = stage.spec.strategies[1].legs
    assert leg.mixture == {"stage-2": Decimal("0.05"), "D2": Decimal("0.95")}
    assert leg.lr.at == Rate("lrMax", Decimal(1))


def test_the_legacy_campaign_says_what_the_launcher_gets_wrong_by_default() -> None:
    """Corrections of the old command: tokenizer, rotary base, universal source, a warm-up that is read."""
    model, stage = read("agpt-7b/model.yaml"), read("agpt-7b/stage.yaml")
    assert isinstance(model, ModelManifest) and isinstance(stage, StageManifest)
    assert model.spec.tokenizer.type == "Llama2Tokenizer"
    assert model.spec.architecture.rope_theta == 10_000
    assert model.spec.tokens_per_iteration == 4096 * 3072
    lr = stage.spec.strategies[0].legs[0].lr
    assert (lr.shape, lr.warmup, lr.rewarm) == ("cosine", Decimal("0.01"), True)
    assert isinstance(stage.spec.source, ExternalSource)
    assert (stage.spec.source.format, stage.spec.source.trained_on) == ("universal", ("dolma",))


def test_defaults_are_there_when_left_out() -> None:
    campaign, cluster = read("agpt-7b/campaign.yaml"), read("agpt-7b/cluster.yaml")
    assert isinstance(campaign, CampaignManifest) and isinstance(cluster, ClusterManifest)
    assert campaign.spec.gates.forgetting is not None
    assert campaign.spec.gates.forgetting.strong == Limits(warn=Decimal("0.15"), fail=Decimal("0.30"))
    assert campaign.spec.buffer.composition == "by-tokens"
    assert cluster.spec.poll == 300


@pytest.mark.parametrize("path", ["a b", "a;b", "$HOME", "a\nb", "-rf", "a/../b", "..", "~/x", "`x`", "a'b", "", "a*"])
def test_paths_that_a_shell_or_the_file_system_would_take_otherwise_are_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        ListOnCluster(path=path)


@pytest.mark.parametrize("path", ["/flare/a.txt", "a/b-c_d+e.txt", "./x", "a..b", "..."])
def test_plain_paths_are_taken(path: str) -> None:
    assert ListOnCluster(path=path).path == path


@pytest.mark.parametrize(("name", "value"), [("OMP", "a b"), ("OMP", "$(x)"), ("omp", "1"), ("A=B", "1"), ("OMP", "")])
def test_environment_that_would_be_evaluated_again_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        LauncherSpec.model_validate(
            {
                "kind": "megatron-deepspeed",
                "checkout": "x",
                "machine": "local",
                "startup": "5s",
                "environment": {name: value},
            }
        )


@pytest.mark.parametrize("bad", ["..", "../a", "a/../../b", "a b", "a\n", "~", "$HOME", "a/.."])
def test_names_and_paths_lead_nowhere_else(bad: str) -> None:
    two = {"divisor": [2, 3]}
    kinds: list[tuple[type[Frozen], dict[str, object]]] = [
        (ExternalGate, {"name": bad, "metric": ["a"], "at_least": Decimal(1)}),
        (Gates, {"target": {bad: Decimal(1)}}),
        (Selection, {"shards": [bad]}),
        (TrialMatrix, {"mixture": {bad: {"D0": Decimal(1)}}}),
        (Trial, {"tokens": 1000, "matrix": two, "compare": [bad]}),
        (Trial, {"tokens": 1000, "matrix": two, "compare": ["val-D0"], "chosen": bad}),
        (UsedStrategy, {"stage": bad, "used": ["naive"]}),
        (UsedStrategy, {"stage": "stage-1", "used": [bad]}),
    ]
    for kind, fields in kinds:
        with pytest.raises(ValidationError) as refused:
            kind.model_validate(fields)
        assert refused.value.errors()[0]["input"] == bad, kind


def test_manifests_cannot_be_changed() -> None:
    stage = read("auroragpt-v1/stage-1.yaml")
    assert isinstance(stage, StageManifest)
    with pytest.raises(ValidationError):
        stage.spec.tokens = 1  # type: ignore[misc]  # that it is read-only is the point


def test_many_problems_of_one_document_are_cut_with_their_number() -> None:
    text = (ROOT / "auroragpt-v1/stage-1.yaml").read_text() + "".join(f"extra{n}: 1\n" for n in range(70))
    (document,) = source.read("f.yaml", text.encode()).documents
    manifest, problems, _ = manifest_of(document)
    assert manifest is None
    assert [problem.code for problem in problems] == ["M022"] * PROBLEMS_MAX + ["M019"]
    assert problems[-1].detail == "20 more in this document"


def test_a_line_end_after_a_name_is_no_part_of_it() -> None:
    """`$` of a regular expression matches before it; the classes do not."""
    text = (ROOT / "auroragpt-v1/stage-1.yaml").read_text().replace("name: stage-1", 'name: "stage-1\\n"')
    manifest, problems, _ = manifest_of(source.read("f.yaml", text.encode()).documents[0])
    assert manifest is None
    assert [(problem.code, problem.where.path) for problem in problems] == [("M026", ("metadata", "name"))]


yaml_scalars = st.one_of(
    st.sampled_from(["", "x", "4T", "-1", ".nan", "1e400", "yes", "[a]", "{a: b}", "*x", "!!int 3", '"', "007", "5 %"]),
    st.text(max_size=8),
)


@settings(max_examples=150)
@given(st.sampled_from(sorted(ROOT.rglob("*.yaml"))), st.data())
def test_any_damage_to_a_manifest_is_told_and_never_raises(file: Path, data: st.DataObject) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    action = data.draw(st.sampled_from(["value", "delete", "repeat", "indent", "insert"]))
    match action:
        case "value":
            lines[number] = lines[number].split(":")[0] + ": " + data.draw(yaml_scalars)
        case "delete":
            del lines[number]
        case "repeat":
            lines.insert(number, lines[number])
        case "indent":
            lines[number] = data.draw(st.sampled_from([" ", "\t", "    "])) + lines[number]
        case _:
            lines.insert(number, data.draw(st.text(max_size=20)))
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    read_source = source.read(file.name, text)
    for document in read_source.documents:
        manifest, problems, _ = manifest_of(document)
        assert (manifest is None) == bool(problems or document.faulty)
        for problem in problems:
            assert 1 <= problem.where.line <= len(source.lines_of(read_source.text or ""))
