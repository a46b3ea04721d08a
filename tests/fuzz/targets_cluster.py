"""What a cluster answers: frames, answers in whole frames, what qstat prints, training logs, files of a workspace."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from reconciler.cli import machine
from reconciler.cluster import (
    agent,
    agent_attempts,
    agent_checkpoints,
    agent_disk,
    agent_inside,
    agent_lock,
    agent_logs,
    agent_numbers,
    agent_pbs,
    agent_pickle,
    agent_qstat,
    frames,
)
from reconciler.cluster.answers import folder as folder_of
from reconciler.cluster.answers import jobs, outcomes
from reconciler.cluster.fields import Fields, Malformed
from reconciler.cluster.observe import ObserveRequest, observe
from reconciler.model.observed import FolderSeen, Observed, Unread
from reconciler.planner.checks import judge
from reconciler.planner.planner import plan
from tests.fuzz.engine import Target
from tests.planner.world import World, after, quickstart

ROOT = Path(__file__).parent.parent.parent
NONCE = "00ff" * 8
MEMORY = Path("/dev/shm")
FOLDER = tempfile.TemporaryDirectory(prefix="reconcile-fuzz-", dir=MEMORY if MEMORY.is_dir() else None)
WORKSPACE = Path(FOLDER.name) / "workspace"
MEMORY_FILE = Path(FOLDER.name) / "model.pt"
CAMPAIGN = "demo"


# --- frames


def frame_seeds() -> Iterator[bytes]:
    whole = frames.answer(b'{"answer":{}}', NONCE)
    yield whole
    yield b"Welcome to Polaris\r\n" + whole + b"\nlogout\n"
    yield whole[:-9]
    yield frames.answer(b"x", NONCE)[:90] + whole


def framing(data: bytes) -> Hashable:
    """An object or Garbled; noise around a whole answer never hides or changes it."""
    try:
        told: Hashable = len(frames.decode(data, NONCE))
    except frames.Garbled as garbled:
        told = "".join(c for c in str(garbled) if not c.isdigit())[:50]
    if NONCE.encode() not in data:
        noisy = data + frames.answer(b'{"answer":1}', NONCE) + data
        assert frames.decode(noisy, NONCE) == {"answer": 1}
    return told


# --- answers


@dataclass
class Answering:
    """A link to a cluster that answers every request with this payload, well framed."""

    payload: bytes
    host: str = "cluster"

    def exec(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> bytes:
        """The frame has the nonce that was asked for."""
        found = re.search(rb"cpt-request ([0-9a-f]+) \d+ [0-9a-f]{64}\n", stdin)
        assert found is not None
        return frames.answer(self.payload, found[1].decode("ascii"))


DESIRED = quickstart()
LISTS = tuple(sorted({*DESIRED.list_paths().values(), *DESIRED.validation_paths().values()}))


def answer_of(seen: Observed) -> dict[str, Any]:
    """The agent's answer of which `observe` makes this look."""

    def read(rows: Any, made: Any) -> dict[str, Any]:
        return {"read": [made(asdict(row)) for row in rows]}

    def job(row: dict[str, Any]) -> dict[str, Any]:
        return agent_qstat.job_record(row["job_id"], {}) | {
            "name": row["name"], "state": row["letter"], "key": row["key"], "exit": row["exit_status"], "unread": "",
            "substate": row["substate"], "started": row["started_s"], "modified": row["ended_s"], "workspace": None,
        }  # fmt: skip

    def receipt(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"written": row.pop("written_s")}

    def log(row: dict[str, Any]) -> dict[str, Any]:
        points = {
            name: [[p["iteration"], p["loss"], p["learning_rate"]] for p in row[name]] for name in ("first", "last")
        }
        windows = [window | {"rate": window.pop("learning_rate")} for window in row["windows"]]
        return {
            "key": row["key"], "loaded": row["loaded_iteration"], "random": row["started_from_random"], **points,
            "windows": windows, "saved": row["saved"], "exit": row["exit_reason"], "rc": row["finished_rc"],
            "errors": row["errors"], "seconds": row["seconds_per_iteration"],
        }  # fmt: skip

    def leg(row: dict[str, Any]) -> dict[str, Any]:
        checkpoints = [
            {
                "iteration": c["iteration"],
                "why": c["why_not"],
                "data_parallel": c["data_parallel"],
                "size": c["size_bytes"],
                "model_parallel": c["model_parallel"],
                "universal": c["universal"],
                "inside": c["inside"],
                "identity": c["identity"],
                "saved": c["saved_s"],
            }
            for c in row["checkpoints"]
        ]
        copy = {"copy_size": row.pop("copy_bytes")}
        return row | copy | {"checkpoints": checkpoints, "logs": [log(each) for each in row["logs"]]}

    def attempt(row: dict[str, Any]) -> dict[str, Any]:
        told = ("leg", "iteration", "losses", "earlier")
        evaluations = [{name: e[name] for name in told} for e in row["evaluations"]]
        stop = {"stop": row.pop("stop_requested")}
        return row | stop | {"legs": [leg(each) for each in row["legs"]], "evaluations": evaluations}

    return {
        "receipts": read(seen.receipts, receipt),
        "jobs": read(seen.jobs, job),
        "attempts": read(seen.attempts, attempt),
        "applied": {"read": seen.applied},
        "lock": {"read": {"nonce": "ab", "holder": "ada@desk:1", "host": "login1", "age": 3.5}},
        "lists": {
            path: {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
            for path in LISTS
            for text in [f"0.75 /data{path}-a text\n0.25 /data{path}-b more\n"]
        },
        "folders": {},
        "logs": {},
        "now": seen.now_s,
        "host": "login1",
        "bytes_read": 0,
    }


def answer_seeds() -> Iterator[bytes]:
    worlds: list[World] = [World(DESIRED), after(1, DESIRED), after(2, DESIRED)]
    for world in worlds:
        yield json.dumps({"answer": answer_of(world.look())}).encode()
    yield b'{"failed": "no"}'
    yield b'{"locked": {"nonce": "a", "holder": "b", "host": "c", "age": 1}}'
    yield b'{"outcomes": [{"key": "k", "kind": "done", "job_id": "1.x", "message": ""}], "note": ""}'


def answering(data: bytes) -> Hashable:
    """A look and a plan for it, whatever a whole answer holds; what is not as agreed is unread."""
    seen = observe(Answering(data), ObserveRequest("/w", "quickstart", LISTS))
    planned = plan(DESIRED, seen)
    refusals = judge(planned, seen)
    machine.plan_json(planned, {})
    try:
        value = json.loads(data)
        outcomes(Fields(value, "the answer"), ["k"])
    except (Malformed, ValueError, RecursionError):
        pass
    parts = (seen.jobs, seen.attempts, seen.receipts, seen.applied)
    told = tuple(part.why[:60] if isinstance(part, Unread) else "" for part in parts)
    return told, tuple((status.phase, status.reason) for status in planned.stages), len(refusals)


def sent(value: Any) -> bytes:
    """As the agent puts an answer into bytes."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


# --- qstat


def qstat_seeds() -> Iterator[bytes]:
    for pattern in ("cluster/recordings/*/stdout", "recordings/openpbs/*/stdout"):
        for number, path in enumerate(sorted((ROOT / "tests").glob(pattern))):
            data = path.read_bytes()
            if number % 20 == 0 and 40 < len(data) < 20_000:
                yield data
    job = {"Job_Name": "x", "job_state": "R", "Variable_List": {"CPT_KEY": "demo/s/0123456789ab/l0/n0/train", "A": "b"}}
    yield json.dumps({"Jobs": {"1.small": job, "2.small": job}}).encode()


class Canned(agent_pbs.Pbs):
    """A PBS whose every qstat prints the same."""

    printed = b""

    def run(self, argv: list[str]) -> tuple[int, bytes, str]:
        """qselect lists every id that stands in the text."""
        if argv[0] == "qselect":
            ids = [found.group(1) for found in agent_qstat.JOB_MEMBER.finditer(self.printed.decode("utf-8", "replace"))]
            ids += agent_qstat.TEXT_JOB.findall(self.printed.decode("utf-8", "replace"))
            return 0, "\n".join(dict.fromkeys(ids[:20])).encode("utf-8", "replace"), ""
        return 0, self.printed, ""


def qstat(data: bytes) -> Hashable:
    """Records or Unreadable; every record is one that the other side reads."""
    pbs = Canned(30.0)
    pbs.printed = data
    try:
        table = pbs.table(["1.small"], [])
        agent_pbs.ours(table, "w" * 12, {"1.small": "demo/s/0123456789ab/l0/n0/train"})
    except agent_pbs.Unreadable as unreadable:
        return str(unreadable)[:30]
    read = jobs(Fields(json.loads(sent({"read": table})), "jobs"))
    return tuple(sorted((job.state, job.key is None, job.nodes is None) for job in read[:3]))


# --- logs


def log_seeds() -> Iterator[bytes]:
    def line(number: int, loss: str = "2.418306E+00") -> str:
        return (
            f" iteration={number:8d}/  140352 | consumed_samples=   572313600 | consumed_tokens=4688393011200 | "
            "elapsed_time_per_iteration_ms=8273.6 | learning_rate=2.17e-05 | global_batch_size= 6144 | "
            f"lm loss={loss} | loss_scale=1.0 | grad_norm=0.1 | num_zeros=0.0 | params_norm=1.0 | "
            "number_of_skipped_iterations=  0 | number_of_nan_iterations=  0 | samples_per_second=742.6 | "
            "tokens_per_gpu_per_second_tgs=990.1 | TFLOPs=50.1 |"
        )

    yield "\n".join(line(number) for number in range(1, 12)).encode() + b"\n"
    yield (
        line(5, "nan") + "\n[default0]: Traceback (most recent call last):\n  File x\nRuntimeError: no\n"
        "successfully loaded checkpoint from /a at iteration 40\nsuccessfully saved checkpoint at iteration 50\n"
        "[exiting program after 5 minutes] \nExecution finished with -9.\nrank 3 died from signal 9\n" + line(7) + "\n"
    ).encode()


def logs(data: bytes) -> Hashable:
    """Numbers of bounded size, the same at once and line by line, that the other side reads."""
    at_once, by_line = agent_numbers.Numbers(8), agent_numbers.Numbers(8)
    at_once.take(data)
    for line in data.split(b"\n"):
        by_line.take(line + b"\n")
    assert at_once.state == by_line.state
    assert agent_logs.usable(json.loads(json.dumps(at_once.state))), "what is kept is taken up again"
    answer: dict[str, Any] = agent_attempts.NOTHING | {"unread": ""}
    leg = agent_attempts.NO_LEG | {"index": 0, "logs": [at_once.answer("k")]}
    seen = observed_attempts([answer | {"stage": "s", "attempt": "0" * 12, "legs": [leg]}])
    assert not isinstance(seen, Unread), seen.why
    (log,) = seen[0].legs[0].logs
    return (
        len(log.windows),
        len(log.first),
        len(log.errors),
        log.exit_reason[:10],
        log.finished_rc is None,
        log.started_from_random,
    )


def observed_attempts(attempts: list[dict[str, Any]]) -> Any:
    answer = answer_of(World(DESIRED).look()) | {"attempts": {"read": attempts}}
    payload = json.dumps({"answer": answer}).encode()
    return observe(Answering(payload), ObserveRequest("/w", "quickstart", LISTS)).attempts


# --- files of a workspace that others can write to: `=== path` before each

KEY = f"{CAMPAIGN}/s/0123456789ab/l0/n0/train"
NAME = KEY.replace("/", "+")
ATTEMPT = f"{CAMPAIGN}/s/0123456789ab"
PATHS = (
    ".lock", f".journal/{NAME}.json", f".journal/{NAME}.ended", f"{CAMPAIGN}/applied.json", f"{ATTEMPT}/recipe.json",
    f"{ATTEMPT}/jobs/l0-n0-train.log", f"{ATTEMPT}/jobs/l0-n0-train.log.numbers.json", f"{ATTEMPT}/verdicts/final.json",
    f"{ATTEMPT}/evaluations/leg-0-5/val.log", f"{ATTEMPT}/leg-0/latest",
    f"{ATTEMPT}/leg-0/latest_checkpointed_iteration.txt",
    f"{ATTEMPT}/leg-0-source/latest_universal", f"{ATTEMPT}/leg-0-source/global_step5_universal/receipt.json",
    f"{ATTEMPT}/leg-0/global_step5/mp_rank_00_model_states.pt", f"{ATTEMPT}/external/mmlu.json",
)  # fmt: skip


def workspace_seeds() -> Iterator[bytes]:
    log = next(log_seeds())
    lock = {"nonce": "ab", "holder": "a", "host": "b", "boot": "c", "pids": "d", "pid": 1, "start": "1", "begun": 5.0}
    entry = {
        "version": 1,
        "key": KEY,
        "state": "done",
        "begun": 5.0,
        "job_id": "1.small",
        "applied_by": "a",
        "commit": "c",
    }
    ended = agent_qstat.job_record("1.small", {}) | {
        "state": "F",
        "key": KEY,
        "workspace": None,
        "exit": 0,
        "unread": "",
    }
    numbers = agent_numbers.Numbers(8)
    numbers.take(log)
    cache = {
        "version": agent_logs.CACHE_VERSION, "windows": 8, "inode": 0, "offset": 0, "overlong": False,
        "signature": hashlib.sha256(b"").hexdigest(), "numbers": numbers.state,
    }  # fmt: skip
    receipt = {"iteration": 5, "files": {"x.pt": {"bytes": 3}}}
    contents = [json.dumps(each).encode() for each in (lock, entry, ended, {}, {"data_parallel": 2})]
    contents += [
        log,
        json.dumps(cache).encode(),
        b"{}",
        b"validation loss at x | lm loss value= 2.5 | lm loss PPL= 9\n",
    ]
    contents += [b"global_step5", b"5", b"global_step5_universal", json.dumps(receipt).encode(), b"PK\x03\x04"]
    contents += [b'{"results": {"mmlu": 0.5}}']
    yield b"\n".join(f"=== {path}\n".encode() + data for path, data in zip(PATHS, contents, strict=True))
    yield b"=== .journal/" + NAME.encode() + b".json\n" + json.dumps(entry | {"state": "intent"}).encode()


class NoJobs(agent_pbs.Pbs):
    """A PBS that lists no job."""

    def table(self, ids: Any = (), past: Any = (), own: Any = ()) -> list[Any]:
        """Nothing is asked."""
        return []


def workspaces(data: bytes) -> Hashable:
    """A look that the other side reads: one odd file makes at most its own attempt, or the journal, unread."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    WORKSPACE.mkdir()
    for part in data.split(b"=== ")[1:]:
        name, _, content = part.partition(b"\n")
        if name.decode("latin1") in PATHS:
            path = WORKSPACE / name.decode("latin1")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if path.name.endswith("numbers.json") and path.with_name("l0-n0-train.log").exists():
                inode = path.with_name("l0-n0-train.log").stat().st_ino
                path.write_bytes(content.replace(b'"inode": 0', b'"inode": %d' % inode))
    request = {
        "operation": "observe",
        "workspace": str(WORKSPACE),
        "campaign": CAMPAIGN,
        "windows": 8,
        "lists": [],
        "folders": [],
        "logs": [],
        "inside": True,
        "pbs_timeout_s": 1,
    }
    with mock.patch.object(agent, "Pbs", NoJobs):
        answer = agent.handle(request, lambda: 1e9)
        agent_lock.Lock(agent_disk.Disk(str(WORKSPACE)), lambda: 1e9)
        found = agent_lock.Lock(agent_disk.Disk(str(WORKSPACE)), lambda: 1e9).read()
        if found is not None:
            agent_lock.is_stale(found)
    seen = observe(Answering(sent(answer)), ObserveRequest(str(WORKSPACE), CAMPAIGN))
    told = [part.why for part in (seen.jobs, seen.attempts, seen.receipts, seen.applied) if isinstance(part, Unread)]
    assert not any("not as agreed" in why for why in told), told
    shapes = () if isinstance(seen.attempts, Unread) else tuple((a.unread[-20:], len(a.legs)) for a in seen.attempts)
    heads = (
        ()
        if isinstance(seen.receipts, Unread)
        else tuple((r.done, r.written_s == 0, bool(r.job_id)) for r in seen.receipts)
    )
    jobs_seen = None if isinstance(seen.jobs, Unread) else len(seen.jobs)
    legs = () if isinstance(seen.attempts, Unread) else tuple(
        (leg.latest, leg.tracker, leg.converted, len(leg.checkpoints), tuple(len(log.windows) for log in leg.logs))
        for a in seen.attempts for leg in a.legs
    )  # fmt: skip
    return len(told), shapes, seen.lock is None, heads, jobs_seen, legs


# --- what a checkpoint says of itself: the pickle in a torch file, or a file that is none


def inside_seeds() -> Iterator[bytes]:
    scheduler = {"num_steps": 480, "max_lr": 1e-3, "min_lr": 0.0, "lr_decay_style": "cosine", "lr_warmup_steps": 9.0}
    shapes = [OrderedDict(w=torch.Size((8, 2)), b=torch.Size((8,)))]
    arguments = argparse.Namespace(num_layers=2, hidden_size=16, seq_length=16, bf16=True, optimizer="adamw")
    model = {"iteration": 120, "dp_world_size": 2, "lr_scheduler": scheduler, "args": arguments, "param_shapes": shapes}
    groups = {"param_groups": [{"lr": 1e-3, "betas": (0.9, 0.95)}], "state": {0: {"exp_avg": torch.zeros(3)}}}
    shard = {"optimizer_state_dict": {"base_optimizer_state": groups, "partition_count": [2], "zero_stage": 1}}
    for held in (model, shard, {**model, **groups}):
        buffer = io.BytesIO()
        torch.save(held, buffer)
        with zipfile.ZipFile(buffer) as archive:
            yield archive.read("archive/data.pkl")
        yield b"PK" + buffer.getvalue()


def inside(data: bytes) -> Hashable:
    """Facts that the other side reads, or Odd; nothing else, and soon."""
    path = MEMORY_FILE
    if data[:2] == b"PK":
        path.write_bytes(data[2:])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
    told = []
    for read in (agent_inside.model_facts, agent_inside.shard_facts, agent_inside.universal_facts):
        try:
            told.append(read(str(path)))
        except agent_pickle.Odd as odd:
            return "".join(c for c in str(odd) if not c.isdigit())[:60]
    entry = agent_checkpoints.checkpoint(120, "", {}) | {"inside": {**told[0], **told[1]}}
    folder = {"checkpoints": [entry], "latest": None, "tracker": None, "latest_universal": None}
    seen = folder_of(json.loads(sent({"read": folder})))
    assert isinstance(seen, FolderSeen), seen
    return tuple(sorted(name for name, value in entry["inside"].items() if value is None))


TARGETS = (
    Target(
        "inside",
        "facts of bounded size, or a reason",
        inside_seeds,
        inside,
        (
            b"q\x00",
            b"h\x00",
            b"(",
            b"t",
            b"}",
            b"]",
            b"u",
            b"a",
            b"R",
            b"b",
            b"\x81",
            b"\x8a\xff",
            b"X\xff\xff\xff\xff",
            b".",
        ),
    ),
    Target(
        "frames",
        "noise never hides or changes an answer",
        frame_seeds,
        framing,
        (b"\n=cpt-answer= " + NONCE.encode() + b" ", b"\n=cpt-end= "),
    ),
    Target(
        "answers",
        "any whole answer gives a look and a plan",
        answer_seeds,
        answering,
        (b'"read": ', b'"unread": ', b"null", b"[]", b"{}", b"NaN", b"Infinity", b'"state": "F"', b"[" * 2000),
    ),
    Target(
        "qstat",
        "records that can be sent on, or Unreadable",
        qstat_seeds,
        qstat,
        (
            b'"Jobs":',
            b'"1.small":{',
            b'"job_state":"R"',
            b"Job Id: 1.small\n",
            b"    job_state = R\n",
            b"CPT_KEY=",
            b'"Exit_status":',
            b"},",
            b'\\"',
        ),
    ),
    Target(
        "logs",
        "bounded numbers, the same at once and line by line",
        log_seeds,
        logs,
        (
            b"iteration=",
            b"Traceback (",
            b"\r",
            b"\x1b[31m",
            b"Execution finished with ",
            b"lm loss=inf |",
            b"learning_rate=-1e308 |",
        ),
    ),
    Target(
        "workspaces",
        "one odd file does not blind the look",
        workspace_seeds,
        workspaces,
        (b"NaN", b"Infinity", b"[[1, 2.0, 3.0]]", b'"windows": [{}]', b"\n=== .lock\n", b"null", b"1" * 30),
    ),
)
