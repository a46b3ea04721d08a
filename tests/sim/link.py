"""The link from one person to one login node. What is sent is run there: the real agent's source, on the simulated
machine. Everything that a link can do to it on the way is here."""

from __future__ import annotations

import builtins
import errno
import io
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import CodeType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from reconciler.cluster.ports import CommandFailed, LinkLost, Unreachable
from tests.sim.checkers import Broken
from tests.sim.disk import problem
from tests.sim.machine import Killed, Node, Process, Trap
from tests.sim.system import NAMES, modules, opener

if TYPE_CHECKING:
    from tests.sim.people import Person
    from tests.sim.world import World

WRITES = ("write", "mkdir", "create", "rename", "link")
READS = ("listdir", "open", "read", "fstat")
BEGINS = '\n\nif __name__ == "__main__":\n    main()\n'
"""The last lines of the agent: with the rest defined, they are all that one exec does."""


@dataclass(frozen=True)
class Program:
    """The agent's source, defined once: every exec runs its `main` with the modules of its own process."""

    scope: dict[str, Any]
    builtins: dict[str, Any]


@cache
def program(source: bytes) -> Program:
    """Definitions are the same for every exec, and hold nothing that a run changes (a test holds it)."""
    text = source.decode()
    assert text.endswith(BEGINS), "the agent does not begin with its last lines any more"
    mine = dict.fromkeys(NAMES, SimpleNamespace())

    def imported(name: str, *rest: Any) -> Any:
        return mine.get(name) or builtins.__import__(name, *rest)

    inside = {**vars(builtins), "__import__": imported}
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": inside}
    exec(compile(text.removesuffix(BEGINS), "<agent>", "exec"), scope)
    return Program(scope, inside)


@contextmanager
def inside(program: Program, mine: Mapping[str, Any], opened: Callable[..., Any]) -> Iterator[None]:
    """The program on one machine; runs nest, when another's pass runs within a call of the first."""
    before = {name: program.scope[name] for name in NAMES if name in program.scope}, program.builtins["open"]
    program.scope.update({name: mine[name] for name in before[0]})
    program.builtins["open"] = opened
    try:
        yield
    finally:
        program.scope.update(before[0])
        program.builtins["open"] = before[1]


def run(process: Process, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes]:
    """`python3 -I -S -c PROGRAM …` on the machine of the process: its status, and what it printed."""
    stdout = io.BytesIO()
    mine = modules(process, stdin, stdout)
    mine["sys"].argv = ["-c", *argv[5:]]

    def begin(source: bytes) -> None:
        agent = program(source)
        with inside(agent, mine, opener(process, mine["os"])):
            agent.scope["main"]()

    first = {"exec": begin, "len": len, "int": int, "__import__": lambda name, *_: mine[name]}
    try:
        exec(compiled(argv[4]), {"__builtins__": first})
    except SystemExit as end:
        return int(end.code or 0), stdout.getvalue()
    except Killed:
        return -9, stdout.getvalue()
    return 0, stdout.getvalue()


@cache
def compiled(source: str) -> CodeType:
    return compile(source, "<boot>", "exec")


class SimulatedLink:
    """The `Transport` of one person."""

    def __init__(self, world: World, person: Person) -> None:
        self.world, self.person = world, person
        self.last = b""
        self.blind = ""
        """Why the last exec gave no whole answer, or its agent could not see something."""
        self.force: Callable[[Process], Trap] | None = None
        """Makes a trap for the next exec that takes the place of chance."""

    @property
    def host(self) -> str:
        return "the cluster"

    def exec(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> bytes:
        world, happens, dice = self.world, self.world.chance.happens, self.world.chance.of("link")
        self.blind = "the link"
        world.pass_time(world.now + dice.uniform(0.2, 3.0))
        if happens("link: lost before sending"):
            if dice.random() < 0.5:
                raise Unreachable("the cluster cannot be reached.")
            raise LinkLost("the link broke.", sent=False)
        whole = not happens("link: cut while sending")
        sent = stdin if whole else stdin[: dice.randrange(len(stdin))]
        begun = world.now
        status, output, blind = self.run(dice.choice(world.logins), argv, sent)
        if not whole:
            world.check.refuses(status, output)
            raise LinkLost("the link broke.", sent=True)
        if status == -9 or happens("link: answer lost") or world.now - begun > timeout_s:
            raise LinkLost("no answer came.", sent=True)
        if status:
            raise CommandFailed(f"it ended with status {status}", status=status, output=output)
        received = self.received(output)
        self.blind = blind if received is output else "" if output in received else "the link"
        self.last = output
        return received

    def received(self, output: bytes) -> bytes:
        """What arrives of an answer."""
        happens, dice = self.world.chance.happens, self.world.chance.of("answer")
        if happens("link: answer truncated"):
            return output[: dice.randrange(len(output))]
        if happens("link: answer damaged"):
            at = dice.randrange(len(output))
            return output[:at] + bytes([output[at] ^ 4]) + output[at + 1 :]
        if happens("link: answer doubled behind a banner"):
            return b"Welcome to login1\n=cpt-answer= 0 0\n" + output + output
        if happens("link: last answer given again"):
            return self.last
        return output

    def run(self, node: Node, argv: Sequence[str], stdin: bytes) -> tuple[int, bytes, str]:
        world = self.world
        process = Process(world, node)
        process.trap = self.force(process) if self.force is not None else self.trap(process)
        self.force = None
        with world.agent(process):
            try:
                status, output = run(process, argv, stdin)
            except Exception:
                raise Broken("the agent ended with a traceback:\n" + traceback.format_exc()) from None
            world.check.after_exec()
        return status, output, process.blind

    # --- what befalls the agent ---------------------------------------------------------------------------------------

    def trap(self, process: Process) -> Trap | None:
        """Drawn before it starts: at which call what happens."""
        happens, dice = self.world.chance.happens, self.world.chance.of("trap at")
        at = dice.randrange(1, dice.choice((12, 60, 150)))
        if happens("agent: killed"):
            return self.killing(process, at)
        if happens("agent: a call fails once"):
            return failing(process, at, at, dice.choice((errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EDQUOT)))
        if happens("agent: calls fail for good"):
            return failing(process, at, 1 << 30, dice.choice((errno.ENOSPC, errno.EIO, errno.ESTALE)))
        if happens("agent: another pass runs in the middle"):
            return self.interrupting(at, lambda: self.world.people_pass(self.person))
        if happens("agent: stopped for minutes in the middle"):
            pause_s = dice.uniform(30.0, 1500.0)
            return self.interrupting(at, lambda: self.world.pause(self.person, pause_s))
        return None

    def killing(self, process: Process, at: int) -> Trap:
        def trap(number: int, name: str, path: str) -> OSError | None:
            if number == at:
                self.world.say(f"{self.person.name}'s agent is killed at call {at}, {name} {path}")
                process.die()
            return None

        return trap

    def interrupting(self, at: int, what: Any) -> Trap:
        def trap(number: int, name: str, path: str) -> OSError | None:
            if number == at:
                self.world.say(f"{self.person.name}'s agent stands still at call {at}, {name} {path}")
                what()
            return None

        return trap


def failing(process: Process, first: int, last: int, number: int) -> Trap:
    """Calls `first` to `last` fail, of those that this error can come from."""

    def trap(at: int, name: str, path: str) -> OSError | None:
        full = number in (errno.ENOSPC, errno.EDQUOT)
        if not first <= at <= last or name in ("wait", "exec") or (full and name not in WRITES):
            return None
        if name in READS and "/.journal" in path and ".json" in path:
            process.blind = f"{name} {path} failed"
        return problem(number, path)

    return trap
