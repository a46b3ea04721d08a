"""What is told to a person: a code that `reconcile explain` knows, with the names and numbers of the case."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.faults import Fault
from reconciler.model.status import Reason

Code = Fault | Reason
"""What a command may say why it did not do something."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is told to a person: a code, and the names and numbers of the case."""

    code: Code
    message: str

    def __str__(self) -> str:
        return coded(self.message, self.code)


def coded(message: str, code: str) -> str:
    """A message with its code at the end of its first line."""
    first, newline, rest = message.partition("\n")
    return f"{first} [{code}]{newline}{rest}"
