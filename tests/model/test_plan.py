"""Action keys, what a reviewer agrees to, and the plan's digest."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.plan import Action, ActionKey, ActionKind, FileWrite, JobRequest, Plan
from reconciler.model.status import Phase, Reason, StageStatus

KEY = ActionKey("c", "stage-1", "0123456789ab", 2, 3, ActionKind.EVALUATE, "leg-0-100")
JOB = JobRequest("name", "train", 2, 3600, "prod", "acct", ("flare",), "s.pbs", "s.log", {"a": "b"}, {"commit": "1"})
ACTION = Action(KEY, Reason.TOKENS_REMAIN, "do it", (FileWrite("p", "text"),), ("d",), JOB, ("stop",))
PLAN = Plan("c", "r1", False, (ACTION,), (), facts={"stage-1": "Training"})


def test_a_key_in_words() -> None:
    assert str(KEY) == "c/stage-1/0123456789ab/l2/n3/evaluate/leg-0-100"
    assert str(replace(KEY, kind=ActionKind.TRAIN, detail="")) == "c/stage-1/0123456789ab/l2/n3/train"


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True)


@given(
    NAMES,
    NAMES,
    st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    st.integers(0, 999),
    st.integers(0, 99_999),
    st.sampled_from(ActionKind),
    st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9.-]+", fullmatch=True)),
)
def test_a_key_reads_back(
    campaign: str, stage: str, attempt: str, leg: int, ended: int, kind: ActionKind, tail: str
) -> None:
    key = ActionKey(campaign, stage, attempt, leg, ended, kind, tail)
    assert ActionKey.parse(str(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(str(KEY) + "/more", id="too long"),
        pytest.param(str(KEY) + "\n", id="with a line break"),
        pytest.param(str(KEY).replace("evaluate", "destroy"), id="an unknown kind"),
        pytest.param(str(KEY).replace("0123456789ab", "0123456789a"), id="a short attempt"),
        pytest.param(str(KEY).replace("0123456789ab", "0123456789AB"), id="a digest in capitals"),
        pytest.param(str(KEY).replace("l2", "l-2"), id="a negative leg"),
        pytest.param(str(KEY).replace("l2", "l" + "1" * 5000), id="a number beyond reading"),
        pytest.param(str(KEY).replace("l2", "l٢"), id="another script's digits"),
        pytest.param("x/" + str(KEY), id="something before it"),
    ],
)
def test_what_is_no_key_of_ours_is_none(text: str) -> None:
    assert ActionKey.parse(text) is None


def test_a_file_is_known_by_its_content() -> None:
    assert FileWrite("p", "ü").sha256 == hashlib.sha256("ü".encode()).hexdigest()


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(replace(PLAN, revision="r2"), id="commit"),
        pytest.param(replace(PLAN, dirty=True), id="uncommitted changes"),
        pytest.param(replace(PLAN, actions=(replace(ACTION, summary="x", reason="y"),)), id="words"),
        pytest.param(
            replace(PLAN, actions=(replace(ACTION, job=replace(JOB, header={"commit": "2"})),)),
            id="the script's header",
        ),
        pytest.param(replace(PLAN, stages=(StageStatus("s", Phase.WAITING, Reason.JOB_LIVE, "x"),)), id="statuses"),
    ],
)
def test_a_plan_that_does_the_same_has_the_same_digest(same: Plan) -> None:
    assert same.digest == PLAN.digest


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(PLAN, campaign="d"), id="campaign"),
        pytest.param(replace(PLAN, actions=()), id="no action"),
        pytest.param(replace(PLAN, facts={"stage-1": "Held"}), id="facts"),
        *(
            pytest.param(replace(PLAN, actions=(action,)), id=name)
            for name, action in {
                "key": replace(ACTION, key=replace(KEY, ended=4)),
                "file's text": replace(ACTION, files=(FileWrite("p", "other"),)),
                "file's path": replace(ACTION, files=(FileWrite("q", "text"),)),
                "what is removed": replace(ACTION, remove=()),
                "no job": replace(ACTION, job=None),
                "nodes": replace(ACTION, job=replace(JOB, nodes=3)),
                "walltime": replace(ACTION, job=replace(JOB, walltime_s=1)),
                "queue": replace(ACTION, job=replace(JOB, queue="debug")),
                "account": replace(ACTION, job=replace(JOB, account=None)),
                "filesystems": replace(ACTION, job=replace(JOB, filesystems=())),
                "template": replace(ACTION, job=replace(JOB, template="evaluate")),
                "values": replace(ACTION, job=replace(JOB, values={"a": "c"})),
            }.items()
        ),
    ],
)
def test_a_plan_that_does_something_else_has_another_digest(other: Plan) -> None:
    assert other.digest != PLAN.digest


@pytest.mark.parametrize(
    ("phases", "done"),
    [([Phase.DONE, Phase.DONE], True), ([Phase.DONE, Phase.HELD], False), ([Phase.WAITING], False)],
)
def test_a_plan_is_done_when_every_stage_is(phases: list[Phase], done: bool) -> None:
    stages = tuple(StageStatus("s", phase, Reason.JOB_LIVE, "") for phase in phases)
    assert replace(PLAN, stages=stages).done is done
