"""A verdict: each gate's answer with every number it used. Written once, beside the checkpoints that it judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from pydantic import TypeAdapter, ValidationError


class Level(StrEnum):
    """A gate's answer."""

    PASS = "pass"  # noqa: S105  # an answer, not a password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's answer."""

    gate: str
    level: Level
    message: str
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """All gates of one attempt."""

    stage: str
    attempt: str
    strategy: str
    iteration: int
    gates: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """No gate failed; warnings pass."""
        return all(gate.level is not Level.FAIL for gate in self.gates)

    @property
    def message(self) -> str:
        """The failures, or else the warnings, or else what every gate measured, in one line."""
        for level in Level.FAIL, Level.WARN, Level.PASS:
            told = [gate.message for gate in self.gates if gate.level is level]
            if told:
                return "; ".join(told)
        return "no gate is on"

    def to_file(self) -> str:
        """The text of the verdict file."""
        return json.dumps({"passed": self.passed, **asdict(self)}, sort_keys=True, indent=2) + "\n"


_READER: Final = TypeAdapter(Verdict)


def read_verdict(text: str) -> Verdict | None:
    """Read a verdict file back; None for anything that is not one."""
    try:
        body = json.loads(text)
        body.pop("passed", None)
        return _READER.validate_python(body)
    except (ValueError, AttributeError, TypeError, RecursionError, ValidationError):
        return None
