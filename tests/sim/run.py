"""One seed: a safety phase with faults, then a liveness phase without, in which the campaign must come to its end."""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from reconciler import loop
from reconciler.model.faults import Fault
from reconciler.model.status import Reason
from tests.sim.campaigns import CAMPAIGNS, commit, drawn
from tests.sim.chance import Chance
from tests.sim.checkers import Broken
from tests.sim.hands import restore_lists
from tests.sim.kept import SHARE, Branch
from tests.sim.people import RETRIED, Person, deterministic
from tests.sim.speed import remembered
from tests.sim.world import World

SAFE_S = (900.0, 2400.0)
PASSES_MAX = 150
"""Of the liveness phase: more than three times what the slowest needed."""


class Stalled(Exception):
    """The campaign does not come to its end although nothing is wrong any more."""


@dataclass
class Result:
    """What came of one seed."""

    seed: int
    failure: str = ""
    kind: str = ""
    """`correctness`, `liveness` or `crash`."""
    trace: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    rates: str = ""
    ended: str = ""
    passes: int = 0

    def line(self) -> str:
        """For a file of results; what was traced is left out, since the seed tells it again."""
        return json.dumps(vars(self) | {"trace": []}) + "\n"


def result_in(line: str) -> Result | None:
    """What `Result.line` wrote; None for a line that was cut off."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return Result(**found | {"counts": Counter(found["counts"])})


def simulate(seed: int, dropped: Collection[str] = (), likely: Collection[str] = ()) -> Result:
    """Run one seed to its end, without the faults that are dropped. Nothing outside of it has a say in it."""
    chance = Chance(seed, dropped, likely)
    world = World(chance, drawn(chance))
    result = Result(seed, trace=world.trace, counts=chance.counts, rates=chance.told())
    with deterministic(world), remembered():
        try:
            people(world)
            safety(world)
            result.ended, result.passes = liveness(world)
            person = world.people[0]
            if person.kept is not None and person.last is not None:
                person.kept.tells_the_same(person.desired, person.last)
        except Broken as broken:
            result.kind, result.failure = "correctness", str(broken)
        except Stalled as stalled:
            result.kind, result.failure = "liveness", str(stalled)
        except Exception:
            result.kind, result.failure = "crash", traceback.format_exc()
    for job in world.pbs.jobs.values():
        chance.counts[f"job ended: {job.state}/{job.substate}/{job.exit}"] += 1
    if result.ended:
        chance.counts[f"ended: {result.ended}"] += 1
    return result


def people(world: World) -> None:
    dice = world.chance.of("people")
    for name in ("ada", "bob", "cy")[: dice.choice((1, 1, 2, 2, 3))]:
        letter = dice.choice(CAMPAIGNS[world.campaign].drawn)
        world.people.append(Person(world, name, commit(world.campaign, letter)[0]))
    if world.chance.of("record").random() < SHARE:
        world.chance.counts["record: is kept"] += 1
        for person in world.people:
            person.kept = Branch(world)
    world.check.ladders_turned = len({person.desired.revision for person in world.people}) - 1


def safety(world: World) -> None:
    """Everybody looks and acts at their own times, while everything goes wrong that this seed has drawn."""
    dice = world.chance.of("safety")
    until = world.now + dice.uniform(*SAFE_S)
    turns = {person.name: world.now + dice.uniform(0.0, 30.0) for person in world.people}
    world.at(world.now + dice.uniform(0.0, 300.0), world.weather)
    while world.now < until:
        person = min(world.people, key=lambda each: turns[each.name])
        world.pass_time(max(world.now, turns[person.name]))
        meddle(world, person)
        done = person.one_pass()
        if loop.settled(done.look) and done.look.plan.done:
            break
        turns[person.name] = world.now + dice.uniform(20.0, 100.0)


def meddle(world: World, person: Person) -> None:
    """What people and administrators do besides."""
    happens, dice = world.chance.happens, world.chance.of("meddle")
    live = [job for job in world.pbs.jobs.values() if job.state in "QR"]
    if live and happens("person: deletes a job"):
        world.pbs.delete(dice.choice(live))
    if live and happens("person: holds a job"):
        job = dice.choice(live)
        world.pbs.hold(job)
        world.at(world.now + dice.uniform(60.0, 600.0), lambda: world.pbs.release(job))
    if happens("person: takes another commit"):
        person.takes(dice.choice(CAMPAIGNS[world.campaign].taken))


def mend(world: World) -> None:
    """The faults stop."""
    world.chance.on = False
    world.pbs.down_until = world.pbs.blank_until = 0.0
    world.disk.full = False
    restore_lists(world)
    for node in world.logins:
        node.skew_s = world.chance.of("mend").uniform(-20.0, 20.0)
    for job in list(world.pbs.jobs.values()):
        world.pbs.release(job)
    world.say("--- the faults stop")


def liveness(world: World) -> tuple[str, int]:
    """Pass after pass by one person; returns how it ended, and after how many passes."""
    mend(world)
    person = world.people[0]
    for number in range(PASSES_MAX):
        world.pass_time(world.now + 45.0)
        seen = person.one_pass().look
        if seen.plan.done:
            final(world, seen)
            return "done", number
        if not loop.settled(seen):
            continue
        ended = decided(world, person, seen)
        if ended:
            return ended, number
    stages = person.last.plan.stages if person.last is not None else ()
    told = [f"{stage.stage} {stage.phase}/{stage.reason}: {stage.message}" for stage in stages]
    raise Stalled(f"after {PASSES_MAX} passes without faults: {'; '.join(told)}")


def final(world: World, seen: loop.Look) -> None:
    for stage in seen.plan.stages:
        if stage.stage not in world.check.done:
            raise Broken(f"{stage.stage} is told done and was not seen to be")


def decided(world: World, person: Person, seen: loop.Look) -> str:
    """A person decides: "" if it goes on, else how the campaign rightly ends."""
    stage = next(stage for stage in seen.plan.stages if stage.phase != "Done")
    attempt = f"{stage.stage}/{stage.attempt}"
    check = world.check
    if stage.reason is Reason.NO_PROGRESS and f"small/{attempt}" in check.lost:
        return "the loss was lost at the end"
    if stage.reason in RETRIED:
        for job in list(world.pbs.jobs.values()):
            if job.stuck:
                world.pbs.delete(job)
        if stage.reason is Reason.STARTED_FROM_RANDOM:
            if f"small/{attempt}" not in check.random:
                raise Broken(f"{stage.message}, which is not so")
            set_aside(world, f"/w/small/{attempt}", stage.message)
        if stage.reason is Reason.LOAD_DISCONTINUOUS and f"small/{attempt}" not in check.misled_by_load:
            raise Broken(f"{stage.message}, which is not so")
        person.retry = frozenset({stage.stage})
        return ""
    if stage.reason is Reason.SUSPENDED and world.declared_at(person.desired.revision).stages[stage.stage].suspended:
        person.takes("a")
        return ""
    if stage.reason is Reason.GATE_HOLDS and person.moves_a_rung_up(stage.message):
        return ""
    if stage.reason is Reason.LADDER_EXHAUSTED:
        tried = [rung.attempt for rung in stage.rungs if rung.outcome == "failed"]
        excused = check.lost | check.logs_lost | check.misled_by_load
        wrong = [a for a in tried if f"small/{stage.stage}/{a}" not in excused] if not world.forgets else []
        if wrong:
            raise Broken(f"{stage.stage}: {stage.message}, but nothing is wrong with {wrong}")
        return "ladder exhausted"
    if stage.reason is Reason.SOURCE_UNUSABLE and check.harmed:
        return "the source is lost"
    if stage.reason is Reason.VERDICT_UNREADABLE:
        file = next(f"/w/{word}" for word in stage.message.split() if "/verdicts/" in word)
        world.disk.rename(file, f"{file}.aside")
        return ""
    if stage.reason is Reason.TRAINED_IMMUTABLE and check.edited(stage.stage, person.desired.revision):
        return "two recipes"
    if (
        stage.reason is Reason.TRAINED_IMMUTABLE
        and "starts from another attempt" in stage.message
        and check.done_removed
    ):
        return "the source is lost"
    if stage.reason is Reason.NODE_HOURS_EXHAUSTED and check.spent_s / 3600 > 0.9 * world.declared.node_hours:
        return "node-hours are spent"
    if stage.reason is Reason.EXTERNAL_UNREADABLE:
        return ""  # who looked has written it anew
    if stage.reason is Reason.TOKENS_EXHAUSTED and check.tokens_begun(stage.stage) > world.declared.tokens:
        return "tokens are spent"
    asked = check.evaluations_removed or check.lists_edited or world.campaign == "asks for a choice"
    if stage.reason is Reason.TRIAL_AWAITS_CHOICE and asked:
        person.chooses(stage.message)
        return ""
    if seen.plan.refusals and seen.plan.refusals[0].code == Fault.OVER_ALLOCATION:
        wanting = world.check.node_hours_wanting(stage.stage)
        if wanting > 0:
            return "node-hours would not do"
    raise Stalled(f"held without cause: {stage.stage} {stage.reason}: {stage.message}; refused: {seen.plan.refusals}")


def set_aside(world: World, folder: str, message: str) -> None:
    """As the message says: that folder is moved away."""
    for name in world.disk.names(folder):
        if name.startswith("leg-") and f"{name} are not" in message:
            world.disk.rename(f"{folder}/{name}", f"{folder}/{name}.aside")
            world.check.set_aside(f"{folder}/{name}")
