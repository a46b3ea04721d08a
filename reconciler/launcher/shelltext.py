"""Shell text → words and operators, one pass, nothing executed. Enough of bash for scripts that people submit.

Words keep their parts: what is literal, what would be expanded and whether it stood in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TEXT_CHARS_MAX: Final = 1_000_000
"""A longer text is no script."""
OPERATORS: Final = ("&&", "||", "|&", ";;&", ";;", ";&", "&>>", "&>", "<<<", "<<-", "<<", ">>", "<&", ">&", ">|", "<>",
                    "\n", ";", "&", "|", "(", ")", "<", ">")  # fmt: skip
REDIRECTIONS: Final = frozenset({"<", ">", ">>", "<&", ">&", ">|", "<>", "&>", "&>>", "<<<", "<<", "<<-"})
_PLAIN: Final = re.compile(r"[^\s\\'\"$`;&|<>()]+")
_IN_QUOTES: Final = re.compile(r"[^\\\"$`]+")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-]")


class Unreadable(ValueError):
    """Text that is no shell script: too long, or with bytes that no script has; the message says which."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word. `kind` is `literal`, `variable` (body: what is between the braces), `arithmetic`, `command`
    or `home`; `raw` is the text as written."""

    kind: str
    body: str
    raw: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Word:
    """Parts side by side."""

    parts: tuple[Part, ...]
    line: int

    @property
    def raw(self) -> str:
        """As written, without quotes."""
        return "".join(part.raw for part in self.parts)

    @property
    def bare(self) -> str:
        """The text if nothing of it is quoted or expanded, else empty: only such a word can be a keyword."""
        plain = all(part.kind == "literal" and not part.quoted for part in self.parts)
        return self.raw if plain else ""


@dataclass(frozen=True, slots=True)
class Operator:
    """One of `OPERATORS`."""

    text: str
    line: int


Token = Word | Operator


def tokens(text: str) -> Iterator[Token]:
    """Words and operators in order; comments, line continuations and here-documents are left out.

    A quote or bracket that is never closed takes in the rest of the text, as an unquoted word.

    Raises:
        Unreadable: longer than `TEXT_CHARS_MAX`, or with a NUL.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise Unreadable(f"the text has {len(text):,} characters; a script has at most {TEXT_CHARS_MAX:,}")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Unreadable(f"line {line} holds a NUL byte; this is no script")
    return _Scanner(text.replace("\r\n", "\n")).run()


def parts_of(text: str) -> tuple[Part, ...]:
    """The parts of a text that stands inside an expansion, as `default` in `${X:-default}`."""
    scanner = _Scanner(text)
    found: list[Part] = []
    while scanner.at < len(text):
        character = text[scanner.at]
        if character.isspace() or character in ";&|<>()":
            found.append(Part("literal", character, character, False))
            scanner.at += 1
        else:
            found += scanner.word().parts
    return tuple(found)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self._documents: list[str] = []

    def run(self) -> Iterator[Token]:
        opens_document = False
        while self.at < len(self.text):
            character = self.text[self.at]
            if character in " \t\r":
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self.at += 2
                self.line += 1
            elif character == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif character in ";&|<>()\n" and not self.text.startswith(("<(", ">("), self.at):
                operator = next(o for o in OPERATORS if self.text.startswith(o, self.at))
                yield Operator(operator, self.line)
                self.at += len(operator)
                opens_document = operator in ("<<", "<<-")
                if operator == "\n":
                    self.line += 1
                    self._skip_documents()
            else:
                word = self.word()
                if opens_document:
                    self._documents.append(word.raw)
                    opens_document = False
                yield word
        yield Operator("\n", self.line)

    def word(self) -> Word:
        line = self.line
        found: list[Part] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if self.text.startswith(("<(", ">("), self.at):
                found.append(self._bracketed("command", self.at + 2, 1, quoted=False))
            elif character in " \t\r\n;&|<>()":
                break
            else:
                found += self._piece(first=not found)
        return Word(tuple(found), line)

    def _piece(self, *, first: bool) -> list[Part]:
        """One quoted stretch, expansion, escape or plain run."""
        character = self.text[self.at]
        if character == "'":
            return [self._until_quote()]
        if character == '"':
            return self._in_quotes()
        if character in "$`":
            return [self._expansion(quoted=False)]
        if character == "\\":
            escaped = self.text[self.at + 1 : self.at + 2]
            self.at += 2
            if escaped == "\n":
                self.line += 1
                return []
            return [Part("literal", escaped, escaped, True)]
        plain = _PLAIN.match(self.text, self.at)
        if plain is None:  # a blank that is no separator of bash
            self.at += 1
            return [Part("literal", character, character, False)]
        self.at = plain.end()
        if (first and plain[0].startswith("~")) or "=~" in plain[0]:
            return [Part("home", plain[0], plain[0], False)]
        return [Part("literal", plain[0], plain[0], False)]

    def _until_quote(self) -> Part:
        end = self.text.find("'", self.at + 1)
        end = len(self.text) if end < 0 else end
        body = self.text[self.at + 1 : end]
        self.at = end + 1
        self.line += body.count("\n")
        return Part("literal", body, body, True)

    def _in_quotes(self) -> list[Part]:
        found = [Part("literal", "", "", True)]
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != '"':
            character = self.text[self.at]
            if character == "\\":
                escaped = self.text[self.at + 1 : self.at + 2]
                self.at += 2
                if escaped == "\n":
                    self.line += 1
                    continue
                kept = escaped if escaped in '$`"\\' else "\\" + escaped
                found.append(Part("literal", kept, kept, True))
            elif character in "$`":
                found.append(self._expansion(quoted=True))
            else:
                plain = _IN_QUOTES.match(self.text, self.at)
                assert plain is not None  # noqa: S101  # the branches above took every other character
                self.at = plain.end()
                self.line += plain[0].count("\n")
                found.append(Part("literal", plain[0], plain[0], True))
        self.at += 1
        return found

    def _expansion(self, *, quoted: bool) -> Part:
        text, at = self.text, self.at
        if text[at] == "`":
            end = text.find("`", at + 1)
            end = len(text) if end < 0 else end
            self.at = end + 1
            self.line += text.count("\n", at, end)
            return Part("command", text[at + 1 : end], text[at : end + 1], quoted)
        if text.startswith("$((", at):
            return self._bracketed("arithmetic", at + 3, 2, quoted=quoted)
        if text.startswith("$(", at):
            return self._bracketed("command", at + 2, 1, quoted=quoted)
        if text.startswith("${", at):
            return self._bracketed("variable", at + 2, 1, quoted=quoted, opens="{", closes="}")
        if text.startswith("$'", at) and not quoted:
            self.at += 1
            literal = self._until_quote()
            return literal if "\\" not in literal.body else Part("command", "", f"$'{literal.body}'", True)
        name = _NAME.match(text, at + 1)
        if name is None:
            self.at += 1
            return Part("literal", "$", "$", quoted)
        self.at = name.end()
        return Part("variable", name[0], f"${name[0]}", quoted)

    def _bracketed(
        self, kind: str, start: int, depth: int, *, quoted: bool, opens: str = "(", closes: str = ")"
    ) -> Part:
        """From `start`, just inside `depth` brackets, to their end; quotes inside are respected."""
        begun, outer, at = self.at, depth, start
        while at < len(self.text) and depth:
            character = self.text[at]
            if character == "\\":
                at += 1
            elif character == "'" and kind == "command":
                end = self.text.find("'", at + 1)
                at = len(self.text) if end < 0 else end
            elif character == opens:
                depth += 1
            elif character == closes:
                depth -= 1
            at += 1
        at = min(at, len(self.text))
        self.at = at
        self.line += self.text.count("\n", begun, at)
        return Part(kind, self.text[start : max(start, at - outer + depth)], self.text[begun:at], quoted)

    def _skip_documents(self) -> None:
        for delimiter in self._documents:
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line = self.text[self.at : end].strip("\t")
                self.at = end + 1
                self.line += 1
                if line == delimiter:
                    break
        self._documents = []
