"""Walks the steps of a script, keeps its variables, and notes every call of the launcher. Nothing is executed.

Each way through a branch is walked from the same state; afterwards what the ways agree on is known. A loop is walked
once, and afterwards nothing that it sets is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from reconciler.launcher.callwords import SHELLS, WRAPPERS, Call, Submission, launcher_in, submission, unwrapped
from reconciler.launcher.expansion import Unknown, Value, Variables, after_loop, joined, merged
from reconciler.launcher.scriptsteps import Command, Edge, Function, Sets, Step, assigned_in, steps_of
from reconciler.launcher.shelltext import ASSIGNMENT, Unreadable, Word, assignment, tokens

STEPS_MAX: Final = 20_000
"""Steps walked, calls of functions included; copying many variables counts as several."""
CALLS_MAX: Final = 50
VARIABLES_MAX: Final = 1000
_DEPTH_MAX: Final = 12
_ELEMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\[")
_DECLARING: Final = frozenset({"export", "declare", "typeset", "readonly", "local"})
_READING: Final = frozenset({"read", "mapfile", "readarray", "getopts", "printf"})
"""Commands that set variables which they are told by name."""


@dataclass(slots=True)
class _Branch:
    """A branch or loop that is being walked."""

    before: Variables
    loop: bool
    ways: list[Variables] = field(default_factory=list)
    whole: bool = False
    """One of its ways is always taken."""


_Hidden = tuple[Value | None, bool, bool]
"""(value, whether it is exported, whether it may be)."""


@dataclass(slots=True)
class _Calling:
    """A function that is being walked."""

    branches: int
    """How many branches were open where it was called."""
    locals: dict[str, _Hidden] = field(default_factory=dict)
    """What a local variable hides."""
    perhaps_local: set[str] = field(default_factory=set)
    """Variables that are its own if a condition held."""
    returned: list[Variables] = field(default_factory=list)


class Walker:
    """Walks steps and keeps the variables; calls of the launcher are collected."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.sources: list[str] = []
        self._state = Variables()
        self._functions: dict[str, tuple[Step, ...]] = {}
        self._branches: list[_Branch] = []
        self._subshells: list[tuple[Variables, dict[str, tuple[Step, ...]], dict[str, _Hidden]]] = []
        """What is there again after it: variables, functions, and what the running function's own variables hide."""
        self._calling: list[_Calling] = []
        self._left = STEPS_MAX
        self._depth = 0
        self._unsure: dict[str, tuple[int, str]] = {}
        """Variables that were set before a file was read in: (line, file)."""

    @property
    def exhausted(self) -> bool:
        return self._left < 0

    def walk(self, steps: Sequence[Step]) -> None:
        """Go through the steps, as far as `STEPS_MAX` and `CALLS_MAX` allow."""
        for step in steps:
            self._left -= 1
            if self._left < 0 or len(self.calls) >= CALLS_MAX:
                return
            if isinstance(step, Edge):
                self._edge(step)
            elif not self._state.alive:
                continue
            elif isinstance(step, Function):
                self._functions[step.name] = step.steps
            elif isinstance(step, Sets):
                self._state.assign(step.name, Unknown(f"${step.name}", step.why, step.line), step.line)
            else:
                self._command(step)

    def _copied(self) -> Variables:
        self._left -= len(self._state.values) // 10
        return self._state.copy()

    def _edge(self, edge: Edge) -> None:
        if edge is Edge.SUBSHELL:
            hidden = dict(self._calling[-1].locals) if self._calling else {}
            self._subshells.append((self._copied(), dict(self._functions), hidden))
        elif edge is Edge.LEFT:
            if self._subshells:
                self._state, self._functions, hidden = self._subshells.pop()
                if self._calling:
                    self._calling[-1].locals = hidden
        elif edge in (Edge.BRANCH, Edge.LOOP):
            self._branches.append(_Branch(self._copied(), edge is Edge.LOOP))
            if edge is Edge.LOOP:
                self._state.touched = set()
        elif edge is not Edge.HERE and self._branches:
            self._next_way(self._branches[-1], edge)

    def _next_way(self, branch: _Branch, edge: Edge) -> None:
        branch.ways.append(self._state)
        if edge is not Edge.JOINED:
            self._state = branch.before
            self._state = self._copied()
            branch.whole = branch.whole or edge is Edge.ELSE
            return
        self._branches.pop()
        self._left -= len(self._state.values) // 10
        if branch.loop:
            self._state = after_loop(branch.before, branch.ways[0])
        else:
            self._state = merged(branch.ways if branch.whole else [branch.before, *branch.ways])

    def _command(self, command: Command) -> None:
        words = list(command.words)
        if len(self._state.values) > VARIABLES_MAX:
            raise Unreadable(f"more than {VARIABLES_MAX:,} variables are set by line {command.line}")
        if len(words) == 1 and self._array(words[0], command.line):
            return
        count = next((at for at, word in enumerate(words) if assignment(word) is None), len(words))
        alone = count == len(words)
        # Later assignments of one command see the earlier ones; if there is a command, only they do.
        scratch = self._state if alone or count < 2 else self._copied()
        assigned: list[tuple[str, Value]] = []
        for word in words[:count]:
            name, appends, parts = assignment(word) or ("", False, ())
            value = scratch.value(Word(parts, word.line))
            if appends:
                value = joined([scratch.values.get(name, ""), value])
            assigned.append((name, value))
            if alone:
                self._state.assign(name, value, command.line)
            elif scratch is not self._state:
                scratch.values[name] = value
        if not alone:
            self._run(words[count:], assigned, command.line)

    def _array(self, word: Word, line: int) -> bool:
        """Whether the word is `NAME=(…)`, `NAME+=(…)` or `NAME[…]=…`, which is then done."""
        element = _ELEMENT.match(word.raw)
        if element and "]=" in word.raw:
            known = Unknown(f"${{{element[1]}[@]}}", "its elements are set one by one", line)
            self._state.assign(element[1], known, line)
            self._state.arrays[element[1]] = known
            return True
        found = assignment(word)
        if found is None or [part.kind for part in word.parts[1:]] != ["array"]:
            return False
        name, appends, _ = found
        elements = self._state.fields(word.parts[1].words)
        before: tuple[Value, ...] | Unknown = ()
        if appends:
            single = (self._state.values[name],) if name in self._state.values else ()
            before = self._state.arrays.get(name, single)
        # `[3]=x` in the list, or more elements of something unknown.
        if isinstance(before, Unknown) or any(_raw(element).startswith("[") for element in elements):
            known = Unknown(word.raw, "where its elements go is not followed here", line)
            self._state.assign(name, known, line)
            self._state.arrays[name] = known
        else:
            self._state.assign_array(name, [*before, *elements], line)
        return True

    def _run(self, words: list[Word], assigned: list[tuple[str, Value]], line: int) -> None:
        name = words[0].bare
        if name in WRAPPERS:
            words = self._unwrapped(words, assigned, line)
            if not words:
                return
        launcher = launcher_in(words, self._state.value)
        if launcher is not None:
            self._called(launcher[1], words[launcher[0] + 1 :], assigned, line)
            self._state.alive = self._state.alive and name != "exec"
        elif words[0].raw in SHELLS:
            self._child(words, assigned, line)
        elif name == "qsub":
            job = submission(words, self._state.value)
            if job is not None:
                self._called(job.launcher, job.words, assigned, line, job)
        elif name in _DECLARING:
            self._declare(name, words[1:], line)
        elif name in ("source", ".", "eval"):
            self._read_in(words[1:])
        elif name in self._functions:
            self._call_function(name, words[1:], assigned, line)
        else:
            self._builtin(name, words[1:], line)

    def _unwrapped(self, words: list[Word], assigned: list[tuple[str, Value]], line: int) -> list[Word]:
        """The command behind a wrapper, with what `env` sets in `assigned`; nothing if it is run already."""
        inner = unwrapped(words, self._state.value)
        assigned += [(variable, self._state.value(value)) for variable, value in inner.assigned]
        if not inner.clears or not inner.words:
            return inner.words
        outer, self._state = self._state, self._copied()
        self._state.exported.clear()
        self._state.perhaps.clear()
        self._run(inner.words, assigned, line)
        self._state = outer
        return []

    def _read_in(self, words: Sequence[Word]) -> None:
        what = " ".join(word.raw for word in words)[:80]
        self.sources.append(what)
        self._unsure |= {name: (self._state.lines.get(name, 0), what) for name in self._state.values}

    def _child(self, words: Sequence[Word], assigned: Sequence[tuple[str, Value]], line: int) -> None:
        """`bash -c TEXT`: a shell that sees what is exported."""
        at = next((i for i, word in enumerate(words) if i and not word.raw.startswith("-")), len(words))
        if self._depth >= _DEPTH_MAX or at >= len(words) or not any("c" in word.raw for word in words[1:at]):
            return
        text = self._state.value(words[at])
        if isinstance(text, Unknown):
            return
        outer, self._state = self._state, self._copied()
        for name in set(self._state.values) - self._state.exported - self._state.perhaps:
            self._state.drop(name)
        for name, value in assigned:
            self._state.assign(name, value, line)
            self._state.export(name)
        self._state.parameters = tuple(self._state.fields(words[at + 2 :]))
        functions, self._functions = self._functions, {}
        calling, self._calling = self._calling, []
        self._depth += 1
        self.walk(steps_of(tokens(text)))
        self._depth -= 1
        self._functions, self._calling, self._state = functions, calling, outer

    def _builtin(self, name: str, words: Sequence[Word], line: int) -> None:
        raw = [word.raw for word in words]
        if name == "unset":
            for variable in raw if "-f" not in raw else ():
                self._state.drop(variable)
        elif name == "set":
            self._set(words)
        elif name == "shift":
            by = int(raw[0]) if raw and raw[0].isdigit() and len(raw[0]) < 6 else 1
            self._state.shift(by, line)
        elif name == "return" and self._calling:
            self._calling[-1].returned.append(self._copied())
            self._state.alive = False
        elif name == "exit":
            self._state.alive = False
        elif name in _READING or name == "let":
            for variable in assigned_in(" ".join(raw)) if name == "let" else filter(str.isidentifier, raw):
                self._state.assign(variable, Unknown(f"${variable}", f"`{name}` sets it", line), line)

    def _set(self, words: Sequence[Word]) -> None:
        """`set -a`, `set -o allexport`, `set -- ARGUMENTS`."""
        for at, word in enumerate(words):
            text = word.raw
            if text == "--" or text[:1] not in ("-", "+"):
                if text == "--" or words[at - 1].raw not in ("-o", "+o"):
                    self._state.parameters = tuple(self._state.fields(words[at + (text == "--") :]))
                    return
                self._state.export_all = words[at - 1].raw == "-o" if text == "allexport" else self._state.export_all
            elif "a" in text[1:]:
                self._state.export_all = text[0] == "-"

    def _call_function(
        self, name: str, words: Sequence[Word], assigned: Sequence[tuple[str, Value]], line: int
    ) -> None:
        if self._depth >= _DEPTH_MAX:
            return
        outer, given = self._state.parameters, tuple(self._state.fields(words))
        self._calling.append(_Calling(len(self._branches)))
        for variable, value in assigned:
            self._hide(variable)
            self._state.assign(variable, value, line)
            self._state.export(variable)
        before, self._state.touched = self._state.touched, set()
        self._state.parameters = given
        self._depth += 1
        self.walk(self._functions[name])
        self._depth -= 1
        ended = self._calling.pop()
        self._state = merged([*ended.returned, self._state])
        self._state.parameters = outer
        self._uncover(ended, {variable for variable, _ in assigned} & self._state.touched | ended.perhaps_local, line)
        self._state.touched |= before

    def _uncover(self, ended: _Calling, blurred: set[str], line: int) -> None:
        """What the function's own variables hid is there again.

        What becomes of a variable that is set for the call alone and set or exported in it depends on the shell, and of
        one that is the function's own under a condition on that.
        """
        for variable, (before, exported, perhaps) in ended.locals.items():
            self._state.drop(variable)
            if before is not None or variable in blurred:
                why = "a function sets it, or a variable of its own of that name"
                value = Unknown(f"${variable}", why, line) if variable in blurred else before
                self._state.assign(variable, value or "", line)
            self._state.export(variable, on=exported and variable not in blurred)
            if perhaps or variable in blurred:
                self._state.perhaps.add(variable)

    def _hide(self, name: str) -> None:
        """A variable of the running function's own."""
        state = self._state
        before = (state.values.get(name), name in state.exported, name in state.perhaps)
        calling = self._calling[-1]
        if len(self._branches) > calling.branches and name not in calling.locals:
            calling.perhaps_local.add(name)
        calling.locals.setdefault(name, before)

    def _declare(self, name: str, words: Sequence[Word], line: int) -> None:
        """`export`, `declare` and the like."""
        if name == "local" and not self._calling:
            return  # an error, and nothing more
        options = "".join(word.raw[1:] for word in words if word.raw.startswith("-"))
        hides = bool(self._calling) and name in ("local", "declare", "typeset") and "g" not in options
        withdraws = "n" in options if name == "export" else any(word.raw.startswith("+x") for word in words)
        changed = set() if name == "export" else set(options) & set("iluAn")
        # All words are expanded before the first is done: `export A=1 B=$A` takes the A of before.
        told = [(word, *self._declared(word)) for word in words if "f" not in options]
        for word, variable, value in told:
            if not variable:
                continue
            if hides:
                self._hide(variable)
            if value is None:
                if hides:
                    self._state.drop(variable)
            elif not self._array(word, line):
                why = f"what `{name} -{options}` makes of it is not followed here"
                self._state.assign(variable, Unknown(word.raw, why, line) if changed else value, line)
            if withdraws:
                self._state.export(variable, on=False)
            elif name == "export" or "x" in options:
                self._state.export(variable)

    def _declared(self, word: Word) -> tuple[str, Value | None]:
        """(name, value or None) of a word such as `A=b` or `A`; an empty name for an option."""
        found = assignment(word)
        if found:
            name, appends, parts = found
            value = self._state.value(Word(parts, word.line))
            return name, joined([self._state.values.get(name, ""), value]) if appends else value
        text = self._state.value(word)
        if isinstance(text, Unknown):
            return "", None
        quoted = ASSIGNMENT.match(text)
        if quoted and not quoted[2]:
            return quoted[1], text[quoted.end() :]
        return (text, None) if ASSIGNMENT.fullmatch(f"{text}=") else ("", None)

    def _called(
        self,
        launcher: str,
        words: Sequence[Word],
        assigned: Sequence[tuple[str, Value]],
        line: int,
        job: Submission | None = None,
    ) -> None:
        state = self._state
        seen = {n: value for n, value in state.values.items() if n in state.exported and n not in state.arrays}
        for name in state.perhaps & set(state.values):
            line_of = state.lines.get(name, 0)
            seen[name] = Unknown(f"${name}", f"line {line_of} exports it only under a condition", line_of)
        seen |= dict(assigned)
        if job is not None:
            seen = job.environment(seen)
        lines = state.lines | {name: line for name, _ in assigned}
        self.calls.append(
            Call(
                launcher,
                line,
                {name: value for name, value in seen.items() if isinstance(value, str)},
                {name: value for name, value in seen.items() if isinstance(value, Unknown)},
                tuple(state.fields(words)),
                {n: at for n, at in lines.items() if n in {*state.values, *dict(assigned)} and n not in seen},
                any(branch.loop for branch in self._branches),
                {n: what for n, (at, what) in self._unsure.items() if n in seen and state.lines.get(n) == at},
                job.resources if job is not None else None,
            )
        )


def _raw(value: Value) -> str:
    return value if isinstance(value, str) else value.raw
