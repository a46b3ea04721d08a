"""What jobs do when they run: the guard, the launcher's training with its saves, the converter, the evaluation.

Each is a generator that yields how long its next step takes (seconds); between two steps it may be killed. A training
job saves in the launcher's order (contract section 5): shards straight to their names, `latest` when rank 0 has written
its own and before the others have, the tracker last, cut to nothing and written again.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from reconciler.launcher.command import Launch
from tests.launcher import fork
from tests.sim.machine import OpenFile
from tests.sim.qstat import Job, Steps
from tests.sim.script import Call

if TYPE_CHECKING:
    from tests.sim.world import World

SEQUENCE = 128
LOGGED_S = 4.0
"""How long every iteration took, as the log says."""
STRANGE_LOSS = 5.3
"""Of a model that knows next to nothing of what it is trained on."""
LATE, LATE_S = "evaluate: its output is seen late", 25.0
"""How much later at most: a login node's view of a shared file system lags behind, for less than the planner waits."""
LINE = (
    "[2026-01-12 04:11:02,501177][I][megatron/training_log:402:training_log]  iteration={:8d}/{:8d} | "
    "consumed_samples={:12d} | consumed_tokens={:12d} | elapsed_time_per_iteration_ms={:.1f} | learning_rate={:.6g} | "
    "global_batch_size={:5d} |{} loss_scale=1.0 | grad_norm=0.412 | actual_seqlen=  128 | "
    "number_of_skipped_iterations=  0 | number_of_nan_iterations=  0 | samples_per_second=1800.334 | "
    "tokens_per_gpu_per_second_tgs=4800.891 | TFLOPs=53.70 |"
)


class Failed(Exception):
    """The program ends with this traceback."""


@dataclass(frozen=True)
class Stretch:
    """Iterations `first` to `last` of one SAVE folder, and what they were trained on."""

    folder: str
    first: int
    last: int
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Made:
    """The truth about one checkpoint."""

    number: int
    folder: str
    iteration: int
    lineage: tuple[Stretch, ...]
    stored: fork.Stored
    ranks: int
    lost_loss: bool = False


def file_bytes(number: int, name: str) -> bytes:
    """A file as torch writes them: a zip archive, from its first bytes to its last."""
    return b"PK\x03\x04" + f"{number} {name}".encode().ljust(64) + b"PK\x05\x06" + b"\0" * 18


def torch_bytes(number: int, name: str, held: dict[str, object]) -> bytes:
    """The same with a pickle in it, for what the agent opens."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle.dumps(held, 2))
        archive.writestr(zipfile.ZipInfo("archive/made"), f"{number} {name}")
    return buffer.getvalue()


def number_in(data: bytes | None) -> int | None:
    """Whose file this is; None if it is not whole."""
    if data is not None and b"archive/made" in data:
        with contextlib.suppress(zipfile.BadZipFile, KeyError), zipfile.ZipFile(io.BytesIO(data)) as archive:
            return int(archive.read("archive/made").split(b" ", 1)[0])
    if data is None or len(data) != 90 or not data.startswith(b"PK\x03\x04") or data[68:72] != b"PK\x05\x06":
        return None
    return int(data[4:].split(b" ", 1)[0])


def made_elsewhere(number: int, folder: str, iteration: int) -> Made:
    """A checkpoint that another program trained, on four ranks and at the top rate."""
    steps = iteration * 16
    return Made(number, folder, iteration, (), fork.Stored(2e-3, 0.0, 0.0, steps, "constant", steps), 4)


def names_of(ranks: int) -> list[str]:
    shards = [f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(ranks)]
    return ["mp_rank_00_model_states.pt", *shards]


def program(world: World, job: Job) -> Steps:
    """The whole script, from its first line to its exit status."""
    disk, script = world.disk, job.script
    try:
        disk.place(script.log, b"")
    except OSError:
        return 1
    world.check.opens_log(job)
    world.log(job, f"reconcile: 2026-10-01T00:00:00Z job {job.id} begins on {job.node}")
    try:
        stopped = yield from guard(world, job)
    except OSError:
        stopped = 73
    if stopped:
        world.leave(job)
        return stopped
    job.writing = True
    world.check.runs(job)
    work = {"train": train, "convert": convert, "evaluate": evaluate}[job.kind]
    status = 0
    try:
        yield from work(world, job)
    except Failed as failed:
        world.log(job, "Traceback (most recent call last):", '  File "train.py", line 1, in main', str(failed))
        status = int(job.kind == "convert")  # the others pass the launcher's output through tee
    except OSError as error:
        world.log(job, "Traceback (most recent call last):", f"OSError: {error}")
        status = int(job.kind == "convert")
    world.log(job, f"reconcile: 2026-10-01T00:00:00Z job {job.id} on {job.node} ends with status {status}")
    world.leave(job)
    return status


def guard(world: World, job: Job) -> Steps:
    """`templates/guard.pbs`, as far as the script has it. Returns the status it ends with, 0 to go on."""
    disk, folder = world.disk, job.script.attempt
    locked = False
    if job.script.guarded:
        disk.makedirs(folder)
        inode = disk.create(f"{folder}/writer.lock")
        holder = OpenFile(inode, "writer.lock", 0)
        try:
            if not disk.flock(inode, holder, job.node):
                world.log(job, "another job of this attempt is running; this one ends without touching anything")
                return 75
            locked, job.holder = True, holder
        except OSError:
            pass
    yield 0.2
    if job.script.looks_for_writers:
        disk.makedirs(f"{folder}/writers")
        disk.create(f"{folder}/writers/{job.id}")
        for other in disk.names(f"{folder}/writers"):
            if other == job.id:
                continue
            yield 0.1
            status = world.pbs.look(["qstat", "-f", other])[0]
            if status == 0 or (status not in (35, 153) and not locked):
                world.log(job, f"job {other} of this attempt is not over; this one ends without touching anything")
                return 75
            if status in (35, 153) and disk.get(f"{folder}/writers/{other}"):
                disk.unlink(f"{folder}/writers/{other}")
    return marked(world, job) if job.script.marked else 0


def marked(world: World, job: Job) -> int:
    """Under one key one job runs; noted by the first."""
    disk, mark = world.disk, f"{job.script.attempt}/begun/{job.key.replace('/', '+')}"
    disk.makedirs(f"{job.script.attempt}/begun")
    if disk.get(mark) is None:
        disk.place(mark, f"{job.id}\n".encode())
    began = (disk.read(mark) or b"").decode().strip()
    if began != job.id:
        world.log(job, f"job {began} has begun under the key of this one, which ends without touching anything")
        return 75
    series, number, rest = parted(job.key)
    for name in disk.names(f"{job.script.attempt}/begun") if job.script.ordered else ():
        found = parted(name.replace("+", "/"))
        if (found[0], found[2]) == (series, rest) and found[1] > number:
            world.log(job, "a later job than this one has begun; this one ends without touching anything")
            return 75
    return 0


def parted(key: str) -> tuple[str, int, str]:
    """The number in a key, and what is before and after it."""
    *before, number, kind = key.split("/", 5)
    return "/".join(before), int(number.removeprefix("n")), kind


# --- training ---------------------------------------------------------------------------------------------------------


def train(world: World, job: Job) -> Iterator[float]:
    call, dice = job.script.calls[0], world.chance.of("train")
    begun = world.now
    world.log(job, "training ...")
    yield 3.0 + 2.0 * dice.random()
    if world.disk.read(call.environment["DATA_FILE_LIST"]) is None:
        raise Failed(f"FileNotFoundError: {call.environment['DATA_FILE_LIST']}")
    made = load(world, job, call)
    fate = next(
        (name for name in ("crashes", "crashes with status 0", "hangs", "loses its loss")
         if world.chance.happens(f"train: {name}")), "")  # fmt: skip
    strange = made is not None and world.chance.happens("train: loads something else")
    if strange:
        world.check.misled_by_load.add(job.attempt)
    target, every = int(call.environment["TRAIN_ITERS"]), int(call.environment["SAVE_INTERVAL"])
    start = (
        0 if made is None or "--reset-iteration" in call.arguments or "--finetune" in call.arguments else made.iteration
    )
    world.check.trains(job, call, made, start)
    fatal = start + dice.randrange(1, max(2, target - start))
    now = made
    steps = fork.job(Launch(call.environment, call.arguments), made.stored if made else None, start)
    for iteration, rate, stored in asserted(steps):
        yield world.iteration_s
        if iteration == fatal and fate.startswith("crashes"):
            if fate == "crashes":
                raise Failed("torch.OutOfMemoryError: out of memory")
            world.log(job, "rank 3 died from signal 9", "Execution finished with -9.")
            return
        if iteration == fatal and fate == "hangs":
            yield 1e6
        lost = (fate == "loses its loss" and iteration >= fatal) or (now is not None and now.lost_loss)
        now = grown(world, now, call, iteration, stored, lost)
        world.check.iterates(job, call, now, iteration, rate)
        loss = STRANGE_LOSS if strange else world.training_loss(call, iteration, target)
        world.log(job, line(call, iteration, target, rate, None if lost else loss))
        if iteration % every == 0:
            yield from save(world, job, call, now)
        leaving = wish_to_leave(world, call, begun, iteration)
        if leaving and iteration < target:
            if iteration % every:
                yield from save(world, job, call, now)
            world.log(job, leaving, "Execution finished with 0.")
            return
    world.log(job, "[after training is done] datetime=2026")
    if now is not None and now is not made:
        yield from save(world, job, call, now)
    world.log(job, "Execution finished with 0.")


def asserted(steps: Iterator[tuple[int, float, fork.Stored]]) -> Iterator[tuple[int, float, fork.Stored]]:
    """What the launcher asserts at start-up ends it."""
    try:
        yield from steps
    except AssertionError as error:
        raise Failed(f"AssertionError: {error}") from None


def line(call: Call, iteration: int, target: int, rate: float, loss: float | None) -> str:
    batch = int(call.environment["GLOBAL_BATCH"])
    told = f" lm loss={loss:.6f} |" if loss is not None else ""
    samples = iteration * batch
    return LINE.format(iteration, target, samples, samples * SEQUENCE, 1000 * LOGGED_S, rate, batch, told)


def wish_to_leave(world: World, call: Call, begun: float, iteration: int) -> str:
    """Why the launcher ends after this iteration, in its words; "" if it goes on."""
    switch, minutes = call.flag("--kill-switch-file"), float(call.flag("--exit-duration-in-mins"))
    if world.disk.get(switch) is not None:
        return f"[Detected kill switch at {switch}, iteration={iteration}. Exiting] datetime=2026"
    if (world.now - begun) / 60 > minutes:
        return f"[exiting program after {(world.now - begun) / 60:.2f} minutes] datetime=2026"
    return ""


def load(world: World, job: Job, call: Call) -> Made | None:
    """The checkpoint at LOAD, None if the launcher finds none and goes on from random weights."""
    disk, folder = world.disk, call.environment["LOAD"]
    pointer = "latest_universal" if "--universal-checkpoint" in call.arguments else "latest"
    named = disk.read(f"{folder}/{pointer}")
    tag = call.flag("--load-tag") or (named or b"").decode("ascii", "replace")
    if not tag and named is None:
        if pointer == "latest_universal":
            raise Failed(f"ValueError: Invalid checkpoint path {folder}")
        world.log(job, f"WARNING: could not find the metadata file {folder}",
                  "    will not load any checkpoints and will start from random")  # fmt: skip
        return None
    names = disk.names(f"{folder}/{tag}") if tag else []  # a pointer that is there and empty names nothing
    files = [name for name in names if name.endswith(".pt")]
    if not files:
        raise Failed(f"AssertionError: Unable to find checkpoint {folder}/{tag}")
    numbers = {number_in(disk.read(f"{folder}/{tag}/{name}")) for name in files}
    ranks = int(call.environment["GLOBAL_BATCH"]) // int(call.environment["GRAD_ACC_STEPS"])
    ranks //= int(call.environment["MICRO_BATCH"])
    wanted = len(files) if pointer == "latest_universal" or "--skip-train" in call.arguments else 1 + ranks
    if None in numbers or len(files) != wanted:
        raise Failed(f"RuntimeError: PytorchStreamReader failed reading {folder}/{tag}")
    world.check.loads(job, folder, tag, numbers)
    made = world.made[max(number for number in numbers if number is not None)]
    shown = 0 if "--finetune" in call.arguments or "--reset-iteration" in call.arguments else made.iteration
    world.log(job, f"  successfully loaded checkpoint from {folder} at iteration {shown}")
    return made


def grown(world: World, now: Made | None, call: Call, iteration: int, stored: fork.Stored, lost: bool) -> Made:
    """The model after one more iteration."""
    folder, before = call.environment["SAVE"], now.lineage if now else ()
    shares = world.shares_of(call.environment["DATA_FILE_LIST"])
    if before and before[-1].folder == folder and before[-1].last == iteration - 1 and before[-1].shares == shares:
        lineage = (*before[:-1], Stretch(folder, before[-1].first, iteration, shares))
    else:
        lineage = (*before, Stretch(folder, iteration, iteration, shares))
    ranks = int(call.environment["GLOBAL_BATCH"]) // int(call.environment["GRAD_ACC_STEPS"])
    return Made(
        world.next_made(), folder, iteration, lineage, stored, ranks // int(call.environment["MICRO_BATCH"]), lost
    )


def save(world: World, job: Job, call: Call, made: Made) -> Iterator[float]:
    """In the launcher's order."""
    disk, folder = world.disk, call.environment["SAVE"]
    world.made[made.number] = made
    inside = f"{folder}/global_step{made.iteration}"
    dies = world.chance.happens("train: node dies while saving")
    full = world.chance.happens("train: disk full while saving")
    at = world.chance.of("save").randrange(2 * (made.ranks + 1) + 3)
    world.check.saves(job, made)
    world.log(job, f"saving checkpoint at iteration {made.iteration:7d} to {folder}")
    disk.makedirs(inside)
    steps = list(writes(folder, inside, made))
    for step, (path, data) in enumerate(steps):
        if step == at and dies:
            world.say(f"the node of {job.id} dies while it saves, at {path}")
            world.at(world.now, lambda: world.pbs.kill(job, 265, 93, "and failed", trap=False))
            yield 1e6
        if step == at and full:
            raise Failed(f"OSError: [Errno 28] No space left on device: {path}")
        if path:
            disk.place(path, data)
        else:
            world.log(job, f"  successfully saved checkpoint at iteration {made.iteration:7d} to {folder}")
        if step == len(steps) - 1:
            world.check.saved(job, made)
        yield 0.1


def writes(folder: str, inside: str, made: Made) -> Iterator[tuple[str, bytes]]:
    """(path, content after this step) of every write of a save, halves included; no path is the message."""
    for rank, name in enumerate(names_of(made.ranks)):
        whole = file_bytes(made.number, name)
        yield f"{inside}/{name}", whole[:40]
        yield f"{inside}/{name}", whole
        if rank == 1:
            yield f"{folder}/latest", f"global_step{made.iteration}".encode()
    yield "", b""
    yield f"{folder}/latest_checkpointed_iteration.txt", b""
    yield f"{folder}/latest_checkpointed_iteration.txt", str(made.iteration).encode()


# --- the other jobs ---------------------------------------------------------------------------------------------------


def convert(world: World, job: Job) -> Iterator[float]:
    """The project's converter: a verified universal copy, its receipt, and last the pointer to it."""
    assert job.script.convert is not None
    disk, (source, target) = world.disk, job.script.convert
    yield 4.0
    files = [name for name in disk.names(source) if name.endswith(".pt")]
    numbers = {number_in(disk.read(f"{source}/{name}")) for name in files}
    if len(numbers) != 1 or None in numbers:
        raise Failed(f"ValueError: {source} is not a whole checkpoint")
    number = next(number for number in numbers if number is not None)
    made = world.made[number]
    name = f"global_step{made.iteration}_universal"
    disk.makedirs(f"{target}/{name}")
    disk.place(f"{target}/{name}/weights.pt", file_bytes(number, "weights.pt"))
    yield 2.0
    if world.chance.happens("convert: crashes"):
        raise Failed("MemoryError: cannot allocate")
    receipt = {"iteration": made.iteration, "files": {"weights.pt": {"bytes": 90}}}
    disk.place(f"{target}/{name}/receipt.json", json.dumps(receipt).encode())
    yield 0.2
    disk.place(f"{target}/latest_universal", name.encode())
    world.check.converts(job, made)


def evaluate(world: World, job: Job) -> Iterator[float]:
    """One validation set after the other, each log moved to its name when it is whole."""
    for call in job.script.calls:
        yield 2.0
        world.disk.place(call.output, b"training ...\n")
        if world.chance.happens("evaluate: crashes"):
            world.disk.append(call.output, b"Traceback (most recent call last):\nAssertionError: no\n")
        else:
            made = load(world, job, call)
            loss = world.validation_loss(call.environment["DATA_FILE_LIST"], made)
            told = f" validation loss at iteration 1 | lm loss value={loss:.6f}lm loss PPL=7.0\n"
            world.disk.append(call.output, told.encode())
        yield 0.2
        if world.chance.happens(LATE):
            world.at(world.now + LATE_S * world.chance.of("late").random(), partial(moved, world, call))
        else:
            moved(world, call)


def moved(world: World, call: Call) -> None:
    """A log has its name; who looks from a login node may see it seconds after the job, if nothing took it away."""
    if world.disk.get(call.output) is not None:
        world.disk.rename(call.output, call.moved_to)
