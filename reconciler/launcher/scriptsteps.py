"""Words and operators → steps: commands in order, and where branches, subshells and functions begin and end.

No step is carried out here, and none ever is: the reader walks them to learn what the launcher would be given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from reconciler.launcher.shelltext import REDIRECTIONS, Operator, Token, Word

TESTS: Final = frozenset(
    {"[", "[[", "test", "grep", "command", "which", "((", "type", "cmp", "diff", "true", "false", "hash", "let"}
)
"""Commands whose success is a question: what follows `&&` happens only sometimes."""
_OPENING: Final = frozenset({"if", "while", "until", "for", "select", "case"})
_CLOSING: Final = frozenset({"fi", "done", "esac", "}"})
_SKIPPED: Final = {"case": frozenset({"in"}), "for": frozenset({"do"}), "select": frozenset({"do"})}
"""Up to where words of an opening are no commands."""
_AGAIN: Final = frozenset({"then", "do", "else", "elif", "!", "time"})
_APART: Final = ("|", "|&", "&")
"""What stands beside one of these runs in a shell of its own."""
_ASSIGNS: Final = re.compile(r"(?:\+\+|--)\s*([A-Za-z_]\w*)|([A-Za-z_]\w*)\s*(?:\+\+|--|(?:<<|>>|[-+*/%&|^])?=(?!=))")


class Edge(Enum):
    """Where the reader's state is put aside, put back or merged."""

    BRANCH = "what follows may not happen"
    LOOP = "what follows may happen any number of times"
    OTHERWISE = "another way through the same branch"
    ELSE = "the way that is taken when no other is"
    JOINED = "end of a branch or loop"
    SUBSHELL = "what follows changes nothing outside"
    LEFT = "end of a subshell"
    HERE = "nothing; may turn out to have been the beginning of a subshell"


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


@dataclass(frozen=True, slots=True)
class Sets:
    """A variable that gets a value which is not followed here."""

    name: str
    why: str
    line: int


Step = Command | Edge | Function | Sets


@dataclass(slots=True)
class _Open:
    """Something that was opened and not yet closed."""

    kind: str
    steps: list[Step]
    """Where its steps go."""
    name: str = ""
    """Of a function, whose body it is."""
    begins: int = 0
    """Index of its `HERE` in the steps around it."""
    in_branch: bool = False
    """It is the right side of `||`, or of `&&` after a question."""
    branched: bool = False


def steps_of(tokens: Iterable[Token]) -> tuple[Step, ...]:
    """The steps of a script; what does not add up is closed at the end of the text."""
    reader = _Reader()
    for token in tokens:
        reader.take(token)
    return reader.end()


def assigned_in(arithmetic: str) -> tuple[str, ...]:
    """Names that a shell's arithmetic may assign to."""
    return tuple(dict.fromkeys(found[1] or found[2] for found in _ASSIGNS.finditer(arithmetic)))


class _Reader:
    def __init__(self) -> None:
        self.top: list[Step] = []
        self.open: list[_Open] = [_Open("script", self.top)]
        self.words: list[Word] = []
        self.link = ""
        self.asked = False
        self.target = False
        self.defines = ""
        """Name of the function whose body comes next; `?` before the name."""
        self.named = False
        """Its `()` is there already."""
        self.negated = False
        self.skip_to: frozenset[str] = frozenset()
        self.looped = False
        """The next word names the variable of a loop."""
        self.closed: _Open | None = None
        """What was closed just now."""

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
            self.target = True
        elif not self.skip_to:
            self._operator(token)
        elif self.skip_to == frozenset({")"}) and token.text == ")":
            self.skip_to = frozenset()

    def _word(self, word: Word) -> None:
        if self.target:
            self.target = False
        elif word.parts[:1] and word.parts[0].kind == "let" and (not self.words or self.skip_to):
            self._arithmetic(word)
        elif self.looped:
            self.looped = False
            self.steps.append(Sets(word.raw, "a loop gives it one value after the other", word.line))
        elif self.skip_to:
            if word.bare == "esac" and self.open[-1].kind == "case":
                self.skip_to = frozenset()
                self._close()
            elif word.bare in self.skip_to:
                self.skip_to = frozenset({")"}) if word.bare == "in" else frozenset()
        elif self.words or not self._keyword(word):
            self.words.append(word)

    def _arithmetic(self, word: Word) -> None:
        """`((…))`, alone or of a loop."""
        self.looped = False
        names = assigned_in(word.parts[0].body)
        self.steps.extend(Sets(name, "the shell's arithmetic sets it", word.line) for name in names)
        self.asked = not self.skip_to

    def _keyword(self, word: Word) -> bool:
        """Handle a word in the place of a command if it is one of bash's own."""
        text = word.bare
        if text in _OPENING:
            self._opens(text)
            self.looped = text in ("for", "select")
            if text != "if":
                self._branch(Edge.BRANCH if text == "case" else Edge.LOOP)
            self.skip_to = _SKIPPED.get(text, frozenset())
        elif text in _CLOSING:
            self._close()
        elif text == "{":
            self._opens("{")
        elif text == "[[":
            self.asked = True
            self.skip_to = frozenset({"]]"})
        elif text == "function" or self.defines == "?":
            self.defines = "?" if text == "function" else text
        elif text in _AGAIN:
            self._again(text)
        else:
            return False
        return True

    def _again(self, text: str) -> None:
        if text == "then" and self.open[-1].kind == "if" and not self.open[-1].branched:
            self._branch(Edge.BRANCH)
        elif text in ("else", "elif") and self.open[-1].branched:
            self.steps.append(Edge.ELSE if text == "else" else Edge.OTHERWISE)
        self.negated = text == "!"

    def _operator(self, operator: Operator) -> None:
        if operator.text == "(":
            if len(self.words) == 1 and self.words[0].bare:
                self.defines = self.words.pop().bare
            elif not self.words and (not self.defines or self.named):
                self._opens("(")
        elif operator.text == ")":
            if self.defines:
                self.named = True
                return
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
        if self.defines:
            body: list[Step] = [Edge.SUBSHELL] if kind == "(" else []
            self.open.append(_Open(kind, body, name=self.defines))
        else:
            begins = len(self.steps)
            self.steps.append(Edge.SUBSHELL if self.link in _APART[:2] else Edge.HERE)
            in_branch = self._begins_branch()
            if kind == "(":
                self.steps.append(Edge.SUBSHELL)
            self.open.append(_Open(kind, self.steps, "", begins, in_branch))
        self.closed, self.defines, self.named, self.link = None, "", False, ""

    def _branch(self, edge: Edge) -> None:
        self.steps.append(edge)
        self.open[-1].branched = True

    def _close(self) -> None:
        self._finish("\n")
        if len(self.open) == 1:
            return
        closed = self.open.pop()
        if closed.kind == "(":
            closed.steps.append(Edge.LEFT)
        elif closed.branched:
            closed.steps.append(Edge.JOINED)
        if closed.name:
            self.steps.append(Function(closed.name, tuple(closed.steps)))
            return
        if closed.in_branch:
            self.steps.append(Edge.JOINED)
        if self.steps[closed.begins] is Edge.SUBSHELL:
            self.steps.append(Edge.LEFT)
        else:
            self.closed = closed

    def _begins_branch(self) -> bool:
        begins = self.link == "||" or (self.link == "&&" and self.asked)
        if begins:
            self.steps.append(Edge.BRANCH)
        return begins

    def _finish(self, operator: str) -> None:
        """The command so far is whole."""
        if self.words:
            apart = operator in _APART or self.link in _APART[:2]
            in_branch = self._begins_branch()
            command = Command(tuple(self.words), self.words[0].line)
            self.steps.extend([Edge.SUBSHELL, command, Edge.LEFT] if apart else [command])
            if in_branch:
                self.steps.append(Edge.JOINED)
            first = next((word for word in command.words if "=" not in word.bare), command.words[0])
            carried = self.asked and self.link == "&&" and in_branch
            # After `! a &&` comes what happens if a fails.
            self.asked = first.bare in TESTS or carried or self.negated
            self.words, self.negated = [], False
        elif self.closed is not None and operator in _APART:
            # What was closed just now turns out to run in a shell of its own.
            self.steps[self.closed.begins] = Edge.SUBSHELL
            self.steps.append(Edge.LEFT)
        self.closed = None
        self.link = operator
        if operator not in ("&&", "||"):
            self.asked = False
