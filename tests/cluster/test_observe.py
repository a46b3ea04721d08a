"""What comes back is believed only as far as it is as agreed: the rest is unread, and nothing raises."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cluster import frames
from reconciler.cluster.execute import execute
from reconciler.cluster.observe import ObserveRequest, observe
from reconciler.cluster.ports import (
    AgentFailed,
    ClusterError,
    CommandFailed,
    LinkLost,
    OutcomeUnknown,
    Unreachable,
)
from reconciler.cluster.process import ProcessTransport
from reconciler.model.observed import Observed, Unread
from tests.cluster.test_agent_attempts import VALIDATION, save
from tests.cluster.test_agent_logs import line
from tests.cluster.world import World, train, write

REQUEST = ObserveRequest("/w", "demo", ("/data/list.txt",))


class Says:
    """A cluster that answers with the same object whatever it is asked."""

    host = "cluster"

    def __init__(self, value: Any, keep: float = 1.0) -> None:
        self.value, self.keep = value, keep

    def exec(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> bytes:
        nonce = stdin[stdin.rindex(b"\ncpt-request ") + 1 :].split(b" ")[1].decode()
        whole = frames.answer(json.dumps(self.value).encode(), nonce)
        return whole[: int(len(whole) * self.keep)]


class Fails:
    host = "cluster"

    def __init__(self, error: ClusterError) -> None:
        self.error = error

    def exec(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> bytes:
        raise self.error


@pytest.fixture(scope="module")
def real_answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A whole answer of the real agent, to be spoilt."""
    from reconciler.cluster import agent

    world = World(tmp_path_factory.mktemp("world")).build()
    world.execute(train(), write("demo/stage-1/0123456789ab/verdicts/final.json", "{}"), applied="{}")
    save(world.attempt / "leg-0", 60)
    (world.attempt / "jobs/l0-n0-train.log").write_text("\n".join(line(i) for i in range(1, 30)) + "\n")
    evaluation = world.attempt / "evaluations/leg-0-60"
    evaluation.mkdir(parents=True)
    (evaluation / "d0.log").write_text(VALIDATION.format("2.5"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{world.top / 'bin'}:/usr/bin:/bin")
        request = {"workspace": str(world.workspace), "campaign": "demo", "windows": 8, "pbs_timeout_s": 10}
        answer = agent.observe(request | {"lists": [], "folders": [], "logs": [], "inside": False}, lambda: 5.0)
    answer["lists"] = {"/data/list.txt": {"absent": True}}
    return answer


def parts(seen: Observed) -> dict[str, bool]:
    """Part → whether it was read."""
    names = ("jobs", "attempts", "receipts", "applied")
    return {name: not isinstance(getattr(seen, name), Unread) for name in names}


def test_a_real_answer_is_read_whole(real_answer: dict[str, Any]) -> None:
    seen = observe(Says({"answer": real_answer}), REQUEST)
    assert parts(seen) == dict.fromkeys(("jobs", "attempts", "receipts", "applied"), True)
    assert seen.now_s == 5.0


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found += places(inner, (*path, name))
    return found


HOSTILE: list[Any] = [
    None,
    True,
    -1,
    10**40,
    1e308,
    float("nan"),
    "\ud800",
    "x" * 10_000,
    [],
    {},
    [[]],
    {"read": {}},
    "\x1b[2J",
]


@settings(max_examples=400)
@given(data=st.data())
def test_a_spoilt_answer_never_raises(real_answer: dict[str, Any], data: st.DataObject) -> None:
    answer = copy.deepcopy(real_answer)
    path = data.draw(st.sampled_from(places(answer)))
    inner = answer
    for name in path[:-1]:
        inner = inner[name]
    how = data.draw(st.sampled_from(["other", "gone", "more"]))
    if how == "other":
        inner[path[-1]] = data.draw(st.sampled_from(HOSTILE))
    elif how == "gone":
        del inner[path[-1]]
    elif isinstance(inner, dict):
        inner["surprise"] = 1
    seen = observe(Says({"answer": answer}), REQUEST)
    assert isinstance(seen, Observed)
    assert "\x1b" not in str(seen.jobs), "nothing that a terminal would obey"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("jobs", {"read": [{"id": 7}]}),
        ("attempts", {"read": "no"}),
        ("receipts", {"read": None}),
        ("jobs", {"unread": "qstat did not answer"}),
        ("applied", {}),
        ("attempts", {"read": [], "more": 1}),
    ],
)
def test_one_bad_part_leaves_the_others(real_answer: dict[str, Any], part: str, value: object) -> None:
    seen = observe(Says({"answer": real_answer | {part: value}}), REQUEST)
    assert parts(seen) == {name: name != part for name in ("jobs", "attempts", "receipts", "applied")}


def test_a_list_whose_digest_is_not_its_texts_is_unread(real_answer: dict[str, Any]) -> None:
    lists = {"/data/list.txt": {"text": "1 a\n", "sha256": "0" * 64}}
    assert isinstance(
        observe(Says({"answer": real_answer | {"lists": lists}}), REQUEST).lists["/data/list.txt"], Unread
    )
    assert isinstance(observe(Says({"answer": real_answer | {"lists": {}}}), REQUEST).lists["/data/list.txt"], Unread)


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(Fails(Unreachable("no route")), id="unreachable"),
        pytest.param(Fails(LinkLost("cut", sent=True)), id="link lost"),
        pytest.param(Fails(CommandFailed("python3: not found", status=127)), id="no python"),
        pytest.param(Fails(CommandFailed("killed", status=-9)), id="killed"),
        pytest.param(Says({"answer": {}}, keep=0.5), id="cut answer"),
        pytest.param(Says({"failed": "no such folder"}), id="the agent failed"),
        pytest.param(Says({"answer": []}), id="not an object"),
        pytest.param(Says([]), id="a list"),
    ],
)
def test_a_look_that_failed_is_unread_everywhere(link: Any) -> None:
    seen = observe(link, REQUEST)
    assert parts(seen) == dict.fromkeys(("jobs", "attempts", "receipts", "applied"), False)
    assert isinstance(seen.lists["/data/list.txt"], Unread)
    assert isinstance(seen.jobs, Unread)
    assert seen.jobs.why


@pytest.mark.parametrize(
    ("link", "error"),
    [
        pytest.param(Fails(Unreachable("no route")), Unreachable, id="nothing was sent"),
        pytest.param(Fails(LinkLost("cut", sent=False)), Unreachable, id="cut before sending"),
        pytest.param(Fails(LinkLost("cut", sent=True)), OutcomeUnknown, id="cut after sending"),
        pytest.param(Fails(CommandFailed("x", status=127)), AgentFailed, id="no python"),
        pytest.param(Fails(CommandFailed("x", status=1)), OutcomeUnknown, id="died"),
        pytest.param(Says({"answer": {"outcomes": []}}, keep=0.9), OutcomeUnknown, id="cut answer"),
        pytest.param(Says({"answer": {"outcomes": [], "note": ""}}), OutcomeUnknown, id="an outcome is missing"),
        pytest.param(Says({"answer": {"outcomes": 1}}), OutcomeUnknown, id="not as agreed"),
        pytest.param(Says({"failed": "read-only"}), AgentFailed, id="the agent failed"),
    ],
)
def test_what_execute_raises(world: World, link: Any, error: type[ClusterError]) -> None:
    with pytest.raises(error) as raised:
        execute(link, world.batch(train()))
    assert str(raised.value)
    assert error is not OutcomeUnknown or raised.value.fix


def test_a_job_without_its_script_is_a_programming_error(world: World) -> None:
    from reconciler.cluster.batch import BatchAction

    batch = world.batch()
    batch = type(batch)("/w", "demo", "x", "c", False, (BatchAction(train()),))
    with pytest.raises(ValueError, match="no script"):
        execute(Fails(Unreachable("x")), batch)


PYTHON = sys.executable


def run(code: str, stdin: bytes = b"", timeout_s: float = 20.0) -> bytes:
    return ProcessTransport().exec([PYTHON, "-I", "-S", "-c", code], stdin, timeout_s)


def test_process_carries_large_input_and_output_without_deadlock() -> None:
    data = bytes(range(256)) * 40_000
    code = "import sys; sys.stderr.write('x' * 10**6); sys.stdout.buffer.write(sys.stdin.buffer.read())"
    assert run(code, data) == data


def test_process_ends_at_its_deadline() -> None:
    with pytest.raises(LinkLost) as lost:
        run("import time; time.sleep(60)", timeout_s=0.3)
    assert lost.value.sent


def test_process_does_not_wait_for_what_the_command_left_behind() -> None:
    code = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(5)']); print('done')"
    )
    assert run(code, timeout_s=4) == b"done\n"


def test_process_that_fails_says_what_it_said() -> None:
    with pytest.raises(CommandFailed, match="no luck") as failed:
        run("import sys; print('half'); sys.exit('no luck')")
    assert (failed.value.status, failed.value.output) == (1, b"half\n")


def test_process_that_reads_nothing_is_no_error() -> None:
    assert run("print('x')", b"y" * 1_000_000) == b"x\n"


def test_a_program_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as missing:
        ProcessTransport().exec([str(tmp_path / "none")], b"", 5)
    assert missing.value.fix


def test_the_folders_of_path_are_searched_first(world: World) -> None:
    assert ProcessTransport((str(world.top / "bin"),)).exec(["qselect", "-u", "ada"], b"", 10) == b""
