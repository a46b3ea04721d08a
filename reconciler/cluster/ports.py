"""What the reconciler needs of a cluster, and everything that may go wrong on the way.

ClusterError
├─ Unreachable      nothing was sent, so the cluster is unchanged
├─ LinkLost         the link broke or the deadline passed; `sent` says whether anything went out
├─ CommandFailed    the command on the cluster ended with a status other than 0
├─ OutcomeUnknown   sent, but no whole answer: look before acting again
├─ Locked           somebody else is applying; nothing was done
└─ AgentFailed      the agent answered that it could not do it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from reconciler.model.faults import Fault
from reconciler.model.observed import LockSeen


class Transport(Protocol):
    """Runs one command on the cluster."""

    @property
    def host(self) -> str:
        """Who is spoken to, for messages."""
        ...

    def exec(self, argv: Sequence[str], stdin: bytes, timeout_s: float) -> bytes:
        """Run `argv` with `stdin`, return its standard output once it has ended with status 0.

        Raises:
            Unreachable: nothing was sent.
            LinkLost: no whole answer within `timeout_s`, or the link broke.
            CommandFailed: it ended with another status.
        """
        ...


class Clock(Protocol):
    """Time, passed in so that tests and simulations have their own."""

    def now_s(self) -> float:
        """Seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Pace(Protocol):
    """When the next look may be made."""

    def next(self, poll_s: float, misses: int) -> None:
        """Wait until it is due: `poll_s` after the last one, later after `misses` in a row that read nothing."""
        ...


class ClusterError(Exception):
    """Something between here and the cluster; `fix` is what to do about it, empty if there is nothing to do."""

    fault: ClassVar[Fault]

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class Unreachable(ClusterError):
    """Nothing was sent: the cluster is unchanged."""

    fault = Fault.UNREACHABLE


class LinkLost(ClusterError):
    """No whole answer. With `sent` false nothing went out."""

    fault = Fault.LINK_LOST

    def __init__(self, message: str, fix: str = "", *, sent: bool) -> None:
        super().__init__(message, fix)
        self.sent = sent


class CommandFailed(ClusterError):
    """The command ended with `status`; `output` is what it printed before that."""

    fault = Fault.COMMAND_FAILED

    def __init__(self, message: str, fix: str = "", *, status: int, output: bytes = b"") -> None:
        super().__init__(message, fix)
        self.status = status
        self.output = output


class OutcomeUnknown(ClusterError):
    """Sent, but no whole answer came back. Whatever ran is in the journal: look before acting again."""

    fault = Fault.OUTCOME_UNKNOWN


class Locked(ClusterError):
    """Another apply holds the lock of the workspace; nothing was done."""

    fault = Fault.LOCKED

    def __init__(self, message: str, fix: str = "", *, lock: LockSeen) -> None:
        super().__init__(message, fix)
        self.lock = lock


class Overtaken(ClusterError):
    """Somebody has applied something else since the look that this was planned by; nothing was done."""

    fault = Fault.OVERTAKEN


class AgentFailed(ClusterError):
    """The agent ran and says why it could not do what was asked; nothing was done."""

    fault = Fault.AGENT_FAILED
