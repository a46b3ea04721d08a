"""Shell text → words and operators, one pass, nothing executed. Enough of bash for scripts that people submit.

Words keep their parts: what is literal, what would be expanded and whether it stood in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TEXT_CHARS_MAX: Final = 200_000
TOKENS_MAX: Final = 50_000
"""A longer text is no launch script."""
OPERATORS: Final = ("&&", "||", "|&", ";;&", ";;", ";&", "&>>", "&>", "<<<", "<<-", "<<", ">>", "<&", ">&", ">|", "<>",
                    "\n", ";", "&", "|", "(", ")", "<", ">")  # fmt: skip
REDIRECTIONS: Final = frozenset({"<", ">", ">>", "<&", ">&", ">|", "<>", "&>", "&>>", "<<<", "<<", "<<-"})
ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_PLAIN: Final = re.compile(r"[^\s\\'\"$`;&|<>()]+")
_IN_QUOTES: Final = re.compile(r"[^\\\"$`]+")
_DULL: Final = re.compile(r"[^\\$'\"`(){}]+")
_BACKTICKS: Final = re.compile(r"`((?:[^`\\]|\\.)*)(?:`|$)", re.DOTALL)
_ARRAY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_OPERATOR: Final = re.compile("|".join(re.escape(operator) for operator in OPERATORS))
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-]")


class Unreadable(ValueError):
    """Text that is no shell script: too long, or with bytes that no script has; the message says which."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word. `kind` is `literal`, `variable` (body: what is between the braces), `arithmetic`, `command`,
    `home`, `escapes` (of `$'…'`), `array` (what follows `NAME=`) or `let` (a command `((…))`); `raw` is the text as
    written."""

    kind: str
    body: str
    raw: str
    quoted: bool
    words: tuple[Word, ...] = ()
    """Of an array."""


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

    Carriage returns at line ends are left out too; `Script.windows` tells of them.

    Raises:
        Unreadable: longer than `TEXT_CHARS_MAX` or `TOKENS_MAX`, or with a NUL.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise Unreadable(f"the text has {len(text):,} characters; {TEXT_CHARS_MAX:,} are read")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Unreadable(f"line {line} holds a NUL byte; this is no script")
    for count, token in enumerate(_Scanner(text.replace("\r\n", "\n")).run()):
        if count >= TOKENS_MAX:
            raise Unreadable(f"the text has more than {TOKENS_MAX:,} words; line {token.line} is not reached")
        yield token


def parts_of(text: str, *, quoted: bool = False) -> tuple[Part, ...]:
    """The parts of a text that stands inside an expansion, as `default` in `${X:-default}`.

    In an expansion that is itself `quoted`, a single quote is a character like any other.
    """
    scanner = _Scanner(text, single_quotes=not quoted)
    found: list[Part] = []
    while scanner.at < len(text):
        character = text[scanner.at]
        if character.isspace() or character in ";&|<>()":
            found.append(Part("literal", character, character, False))
            scanner.at += 1
        else:
            found += scanner.word().parts
    return tuple(found)


def assignment(word: Word) -> tuple[str, bool, tuple[Part, ...]] | None:
    """(name, whether it appends, the value's parts) of a word such as `A=b`."""
    if not word.parts or word.parts[0].quoted or word.parts[0].kind not in ("literal", "home"):
        return None
    first = word.parts[0]
    found = ASSIGNMENT.match(first.body)
    if found is None:
        return None
    rest = first.body[found.end() :]
    if first.kind == "home" or rest.startswith("~"):
        return found[1], bool(found[2]), (Part("home", rest, rest, False), *word.parts[1:])
    return found[1], bool(found[2]), (Part("literal", rest, rest, False), *word.parts[1:])


class _Scanner:
    def __init__(self, text: str, *, single_quotes: bool = True) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self._single_quotes = single_quotes
        self._documents: list[tuple[str, bool]] = []
        self._in_array = False

    def run(self) -> Iterator[Token]:
        document = ""
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
            elif self.text.startswith("((", self.at):
                yield Word((self._bracketed("let", self.at + 2, "))", quoted=False),), self.line)
            elif character in ";&|<>()\n" and not self.text.startswith(("<(", ">("), self.at):
                operator = _OPERATOR.match(self.text, self.at)[0]  # type: ignore[index]  # one of them fits
                yield Operator(operator, self.line)
                self.at += len(operator)
                document = operator if operator in ("<<", "<<-") else ""
                if operator == "\n":
                    self.line += 1
                    self._skip_documents()
            else:
                word = self.word()
                if word.bare.isdigit() and self.text[self.at : self.at + 1] in ("<", ">"):
                    continue  # `2>&1`: the number belongs to the operator
                if document:
                    self._documents.append((word.raw, document == "<<-"))
                    document = ""
                yield word
        yield Operator("\n", self.line)

    def word(self) -> Word:
        line = self.line
        found: list[Part] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            if self.text.startswith(("<(", ">("), self.at):
                found.append(self._bracketed("command", self.at + 2, ")", quoted=False))
            elif character == "(" and not self._in_array and len(found) == 1 and _ARRAY.fullmatch(found[0].body):
                found.append(self._array())
            elif character in " \t\r\n;&|<>()":
                break
            else:
                found += self._piece(first=not found)
        return Word(tuple(found), line)

    def _array(self) -> Part:
        """`(…)` after `NAME=`. Arrays do not nest, so neither does this."""
        begun, line, words = self.at, self.line, []
        self.at += 1
        self._in_array = True
        while self.at < len(self.text) and self.text[self.at] != ")":
            character = self.text[self.at]
            if character == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif character in " \t\r\n;&|<>(":
                self.line += character == "\n"
                self.at += 1
            else:
                word = self.word()
                words += [word] if word.parts else []
        self._in_array = False
        self.at = min(self.at + 1, len(self.text))
        self.line = line + self.text.count("\n", begun, self.at)
        return Part("array", "", self.text[begun : self.at], False, tuple(words))

    def _piece(self, *, first: bool) -> list[Part]:
        """One quoted stretch, expansion, escape or plain run."""
        character = self.text[self.at]
        if character == "'" and self._single_quotes:
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
        if (first and plain[0].startswith("~")) or "=~" in plain[0] or ":~" in plain[0]:
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
            ticks = _BACKTICKS.match(text, at)
            self.at = ticks.end() if ticks else len(text)
            self.line += text.count("\n", at, self.at)
            return Part("command", "", text[at : self.at], quoted)
        if text.startswith("$((", at):
            return self._bracketed("arithmetic", at + 3, "))", quoted=quoted)
        if text.startswith("$(", at):
            return self._bracketed("command", at + 2, ")", quoted=quoted)
        if text.startswith("${", at):
            return self._bracketed("variable", at + 2, "}", quoted=quoted)
        if text.startswith('$"', at) and not quoted:
            self.at += 1  # a translated text; nothing translates it here
            return Part("literal", "", "", True)
        if text.startswith("$'", at) and not quoted:
            self.at += 1
            literal = self._until_quote()
            return literal if "\\" not in literal.body else Part("escapes", "", f"$'{literal.body}'", True)
        name = _NAME.match(text, at + 1)
        if name is None:
            self.at += 1
            return Part("literal", "$", "$", quoted)
        self.at = name.end()
        return Part("variable", name[0], f"${name[0]}", quoted)

    def _bracketed(self, kind: str, start: int, closers: str, *, quoted: bool) -> Part:
        """From `start`, just inside the brackets that `closers` close, to their end."""
        begun = self.at
        self.at, closed = _closing(self.text, start, closers, quoted=quoted)
        self.line += self.text.count("\n", begun, self.at)
        return Part(kind, self.text[start : max(start, self.at - closed)], self.text[begun : self.at], quoted)

    def _skip_documents(self) -> None:
        for delimiter, indented in self._documents:
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line = self.text[self.at : end]
                line = line.lstrip("\t") if indented else line
                self.at = end + 1
                self.line += 1
                if line == delimiter:
                    break
        self._documents = []


def _closing(text: str, at: int, closers: str, *, quoted: bool) -> tuple[int, int]:
    """(where the brackets end that `closers` close, how many of them did); the text's end if they never do.

    Quotes and brackets inside are respected. No recursion: a hostile text nests as deeply as it likes.
    """
    stack = list(closers)
    while at < len(text) and stack:
        dull = _DULL.match(text, at)
        if dull:
            at = dull.end()
            continue
        character, two, top = text[at], text[at : at + 2], stack[-1]
        if character == "\\" or two in ("$(", "${"):
            if character != "\\":
                stack.append(")" if two == "$(" else "}")
            at += 2
            continue
        single = character == "'" and top != '"'
        if single and top == "}" and (stack[-2] == '"' if len(stack) > 1 else quoted):
            single = False
        if single:
            end = text.find("'", at + 1)
            at = len(text) if end < 0 else end
        elif character == top:
            stack.pop()
        elif top != '"' and (character == '"' or (character == "(" and top == ")")):
            stack.append('"' if character == '"' else ")")
        at += 1
    return min(at, len(text)), max(0, len(closers) - len(stack))
