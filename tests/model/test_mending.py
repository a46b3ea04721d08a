"""A faulty document without its faults is one that can be checked further, and says where it is not the writer's."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reconciler.model.forms import FORMS
from reconciler.model.manifests import KINDS
from reconciler.model.mending import _SAMPLES, mended

STAGE: dict[str, Any] = {
    "apiVersion": "cpt/v1",
    "kind": "Stage",
    "metadata": {"name": "one"},
    "spec": {
        "campaign": "small",
        "dataset": "prose",
        "tokens": "4M",
        "source": "random",
        "strategies": [{"name": "a", "legs": [{"mixture": {"D0": 1}, "lr": {"shape": "constant"}}]}],
        "resources": {"nodes": 1, "walltime": "1m"},
    },
}


def test_every_form_of_text_has_a_sample() -> None:
    assert [pattern for pattern in FORMS if not any(re.search(pattern, sample) for sample in _SAMPLES)] == []


def test_what_is_sound_stays_as_it_is() -> None:
    assert mended(STAGE, "Stage", []) == (STAGE, frozenset())


@pytest.mark.parametrize(
    ("spec", "faulty", "doubtful"),
    [
        ({"resources": {"nodes": 0, "walltime": "2h"}}, ("spec", "resources", "nodes"), ["resources.nodes"]),
        ({"shift": "mild"}, ("spec", "shift"), ["shift"]),
        ({"source": {"stage": 5}}, ("spec", "source", "stage"), ["source.stage"]),
        ({"shfit": "weak"}, (), ["adopted", "gates", "shfit", "shift", "suspend", "waive"]),
        ({"strategies": "none"}, ("spec", "strategies"), ["strategies"]),
    ],
    ids=["required value", "optional value", "value of an alternative", "unknown field", "whole list"],
)
def test_a_fault_goes_and_its_place_is_doubtful(spec: dict[str, Any], faulty: Any, doubtful: list[str]) -> None:
    data = STAGE | {"spec": STAGE["spec"] | spec}
    rest, doubts = mended(data, "Stage", [faulty] if faulty else [])
    assert KINDS["Stage"].model_validate(rest).metadata.name == "one"
    assert sorted(".".join(map(str, path[1:])) for path in doubts) == doubtful


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_a_kind_is_mended_to_an_object_with_everything_in_doubt(kind: str) -> None:
    rest, doubts = mended({"apiVersion": "cpt/v1", "kind": kind}, kind, [])
    assert KINDS[kind].model_validate(rest).kind == kind
    assert doubts == {("metadata",), ("spec",)}
