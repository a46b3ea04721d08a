"""Words and operators → steps: commands in order, and where branches, subshells and functions begin and end.

No step is carried out here, and none ever is: the reader walks them to learn what the launcher would be given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from reconciler.launcher.shelltext import REDIRECTIONS, Operator, Token, Word

TESTS: Final = frozenset({"[", "[[", "test", "grep", "command", "which", "((", "type", "cmp", "diff"})
"""Commands whose success is a question: what follows `&&` happens only sometimes."""
_OPENING: Final = frozenset({"if", "while", "until", "for", "select", "case"})
_CLOSING: Final = frozenset({"fi", "done", "esac", "}"})
_SKIPPED: Final = {"case": frozenset({"in"}), "for": frozenset({"do"}), "select": frozenset({"do"})}
"""Up to where words of an opening are no commands."""
_AGAIN: Final = frozenset({"then", "do", "else", "elif", "!", "time"})


class Edge(Enum):
    """Where the reader's state is put aside, put back or merged."""

    BRANCH = "what follows may not happen"
    OTHERWISE = "another way through the same branch"
    JOINED = "end of a branch"
    SUBSHELL = "what follows changes nothing outside"
    LEFT = "end of a subshell"


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command: words without redirections."""

    words: tuple[Word, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Function:
    """A function's definition; its steps happen where it is called."""

    name: str
    steps: tuple[Step, ...]


Step = Command | Edge | Function


@dataclass(slots=True)
class _Open:
    """Something that was opened and not yet closed."""

    kind: str
    steps: list[Step]
    """Where its steps go."""
    in_branch: bool = False
    """It is the right side of `||`, or of `&&` after a question."""


def steps_of(tokens: Iterable[Token]) -> tuple[Step, ...]:
    """The steps of a script; what does not add up is closed at the end of the text."""
    reader = _Reader()
    for token in tokens:
        reader.take(token)
    return reader.end()


class _Reader:
    def __init__(self) -> None:
        self.top: list[Step] = []
        self.open: list[_Open] = [_Open("script", self.top)]
        self.words: list[Word] = []
        self.link = ""
        self.asked = False
        self.target = False
        self.defines = ""
        self.skip_to: frozenset[str] = frozenset()

    @property
    def steps(self) -> list[Step]:
        return self.open[-1].steps

    def end(self) -> tuple[Step, ...]:
        self._finish("\n")
        while len(self.open) > 1:
            self._close()
        return tuple(self.top)

    def take(self, token: Token) -> None:
        if isinstance(token, Word):
            self._word(token)
        elif token.text in REDIRECTIONS:
            # `2>&1`: the number belongs to the operator.
            if self.words and self.words[-1].bare.isdigit() and len(self.words) > 1:
                self.words.pop()
            self.target = True
        elif not self.skip_to:
            self._operator(token)
        elif self.skip_to == frozenset({")"}) and token.text == ")":
            self.skip_to = frozenset()

    def _word(self, word: Word) -> None:
        if self.target:
            self.target = False
            return
        if self.skip_to:
            if word.bare == "esac" and self.open[-1].kind == "case":
                self.skip_to = frozenset()
                self._close()
            elif word.bare in self.skip_to:
                self.skip_to = frozenset({")"}) if word.bare == "in" else frozenset()
            return
        if self.words or not self._keyword(word):
            self.words.append(word)

    def _keyword(self, word: Word) -> bool:
        """Handle a word in the place of a command if it is one of bash's own."""
        text = word.bare
        if text in _OPENING:
            self._opens(text)
            self.steps.append(Edge.BRANCH)
            self.skip_to = _SKIPPED.get(text, frozenset())
        elif text in _CLOSING:
            self._close()
        elif text == "{":
            self._opens(f"function {self.defines}" if self.defines else "{")
        elif text == "[[":
            self.asked = True
            self.skip_to = frozenset({"]]"})
        elif text == "function" or self.defines == "?":
            self.defines = "?" if text == "function" else text
        elif text in _AGAIN:
            if text in ("else", "elif"):
                self.steps.append(Edge.OTHERWISE)
        else:
            return False
        return True

    def _operator(self, operator: Operator) -> None:
        if operator.text == "(":
            if len(self.words) == 1 and self.words[0].bare:
                self.defines = self.words.pop().bare
            elif not self.words and not self.defines:
                self._opens("(")
                self.steps.append(Edge.SUBSHELL)
        elif operator.text == ")":
            if not self.defines:
                self._finish("\n")
                if self.open[-1].kind == "(":
                    self._close()
        elif operator.text in (";;", ";&", ";;&"):
            self._finish("\n")
            self.steps.append(Edge.OTHERWISE)
            self.skip_to = frozenset({")"})
        elif operator.text != "\n" or not self.defines:
            self._finish(operator.text)

    def _opens(self, kind: str) -> None:
        in_branch = self._begins_branch() if kind in ("{", "(") else False
        steps: list[Step] = [] if kind.startswith("function ") else self.steps
        self.open.append(_Open(kind, steps, in_branch))
        self.defines = ""
        self.link = ""

    def _close(self) -> None:
        self._finish("\n")
        if len(self.open) == 1:
            return
        closed = self.open.pop()
        if closed.kind.startswith("function "):
            self.steps.append(Function(closed.kind.partition(" ")[2], tuple(closed.steps)))
        elif closed.kind == "(":
            self.steps.append(Edge.LEFT)
        elif closed.kind != "{":
            self.steps.append(Edge.JOINED)
        if closed.in_branch:
            self.steps.append(Edge.JOINED)

    def _begins_branch(self) -> bool:
        begins = self.link == "||" or (self.link == "&&" and self.asked)
        if begins:
            self.steps.append(Edge.BRANCH)
        return begins

    def _finish(self, operator: str) -> None:
        """The command so far is whole."""
        if self.words:
            in_branch = self._begins_branch()
            command = Command(tuple(self.words), self.words[0].line)
            self.steps.append(command)
            if in_branch:
                self.steps.append(Edge.JOINED)
            first = next((word for word in command.words if "=" not in word.bare), command.words[0])
            self.asked = first.bare in TESTS or (self.asked and self.link == "&&" and in_branch)
            self.words = []
        self.link = operator
        if operator not in ("&&", "||"):
            self.asked = False
