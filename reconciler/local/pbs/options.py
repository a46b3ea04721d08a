"""Short options as getopt reads them, with its complaints. Pure."""

from __future__ import annotations

from reconciler.local.pbs.refusals import Usage


def parsed(argv: list[str], letters: str, command: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Options and operands; a letter followed by ":" in `letters` takes a value. "--" ends the options.

    Raises:
        Usage: every unknown letter, or a value that is missing.
    """
    found: list[tuple[str, str]] = []
    complaints: list[str] = []
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        letter_at = 1
        while letter_at < len(word):
            letter = word[letter_at]
            letter_at += 1
            where = letters.find(letter) if letter != ":" else -1
            if where < 0:
                complaints.append(f"{command}: invalid option -- '{letter}'")
            elif letters[where + 1 : where + 2] != ":":
                found.append((letter, ""))
            elif letter_at < len(word) or rest:
                found.append((letter, word[letter_at:] if letter_at < len(word) else rest.pop(0)))
                letter_at = len(word)
            else:
                complaints.append(f"{command}: option requires an argument -- '{letter}'")
    if complaints:
        raise Usage(*complaints)
    return found, rest


def words(line: str) -> list[str]:
    """The words of a `#PBS` line: blanks part them, quotes of either kind hold them together and vanish."""
    found: list[str] = []
    current: list[str] | None = None
    quote = ""
    escaped = False
    for letter in line:
        if escaped:
            current = [*(current or []), letter]
            escaped = False
        elif letter == "\\" and not quote:
            escaped = True
        elif letter in "\"'" and quote in ("", letter):
            quote = "" if quote else letter
            current = current or []
        elif letter.isspace() and not quote:
            if current is not None:
                found.append("".join(current))
            current = None
        else:
            current = [*(current or []), letter]
    return [*found, "".join(current)] if current is not None else found
