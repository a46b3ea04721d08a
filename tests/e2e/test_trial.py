"""A trial for real: two pilots side by side on the embedded cluster, compared, and one of them trained in full."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.campaign import TOKENS_PER_ITERATION, Repository, make

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

PILOT, WHOLE = 10, 16
"""Iterations; neither ends on the save interval of 7."""
STAGE = f"""apiVersion: cpt/v1
kind: Stage
metadata:
  name: stage-1
spec:
  campaign: quickstart
  dataset: prose
  tokens: {WHOLE * TOKENS_PER_ITERATION}
  source: random
  gates: {{recovery: null, forgetting: null}}
  strategies:
    - name: decay
      legs:
        - mixture: {{D0: 1}}
          lr: {{shape: cosine, warmup: 10%}}
      trial:
        tokens: {PILOT * TOKENS_PER_ITERATION}
        matrix: {{divisor: [2, 1000]}}
        compare: [val-D0]
        atOnce: 2
  resources: {{nodes: 1, walltime: 1m}}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A campaign of one stage with one validation set, run to its end."""
    made = make(tmp_path_factory.mktemp("trial") / "repository")
    manifests = made.root / "manifests"
    (manifests / "stages.yaml").write_text(STAGE)
    made.edit("campaign.yaml", "[stage-1, stage-2, stage-3, stage-4]", "[stage-1]")
    model = (manifests / "model.yaml").read_text()
    (manifests / "model.yaml").write_text(re.sub(r"\n *- \{name: val-D[123].*", "", model))
    made.git("commit", "-q", "-a", "-m", "A trial")
    made.run("apply", "--until-done", "--yes", timeout_s=500)
    return made


def test_both_pilots_and_one_whole_attempt_are_trained(repository: Repository) -> None:
    trained = [key.split("/")[2] for key in repository.submitted() if key.endswith("/train")]
    stage = repository.status()["stage-1"]
    pilots = {pilot["attempt"]: pilot for pilot in stage["trial"]["pilots"]}
    assert sorted(trained) == sorted([*pilots, stage["attempt"]])
    assert trained[-1] == stage["attempt"]
    assert [pilot["outcome"] for pilot in pilots.values()] == ["passed", "passed"]
    assert (stage["phase"], stage["iteration"]) == ("Done", WHOLE)


def test_the_lowest_loss_was_chosen_by_the_numbers_that_are_shown(repository: Repository) -> None:
    trial = repository.status()["stage-1"]["trial"]
    best = min(trial["pilots"], key=lambda pilot: pilot["mean"])
    assert (trial["chosen"], trial["by"]) == (best["variant"], "begun")
    shown = repository.run("status")
    for pilot in trial["pilots"]:
        assert f"{pilot['mean']:.4f}" in shown
    assert "●" in shown


def test_the_pilots_were_queued_at_the_same_time(repository: Repository) -> None:
    pilots = {pilot["attempt"] for pilot in repository.status()["stage-1"]["trial"]["pilots"]}
    assert {(key.split("/")[2], key.split("/")[-1]) for key in repository.submitted()[:2]} == {
        (attempt, "train") for attempt in pilots
    }


def test_variants_of_the_trial_trained_at_their_own_rates(repository: Repository) -> None:
    workspace, stage = Path(repository.workspace), repository.status()["stage-1"]
    ends = {}
    for pilot in stage["trial"]["pilots"]:
        log = next((workspace / "quickstart" / "stage-1" / pilot["attempt"] / "jobs").glob("*-train.log")).read_text()
        ends[pilot["variant"]] = float(re.findall(r"learning_rate=([0-9.e+-]+)", log)[-1])
    assert ends["decay.n2"] > 10 * ends["decay.n1000"]
