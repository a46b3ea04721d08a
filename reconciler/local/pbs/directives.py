"""Job scripts: their directives, and what makes qsub refuse one. Pure but for reading the file."""

from __future__ import annotations

import os
import stat
import sys

from reconciler.local.pbs import options
from reconciler.local.pbs.refusals import Refusal, unsupported

PREFIX = "#PBS"
SCRIPT_MAX_BYTES = 64 * 1024 * 1024


def read_script(path: str | None) -> bytes:
    """A script file, or standard input when `path` is None.

    Raises:
        Refusal: missing, not a file, too long, or with DOS line ends (return code 1).
    """
    if path is None:
        text = sys.stdin.buffer.read(SCRIPT_MAX_BYTES + 1) if sys.stdin is not None else b""
    else:
        try:
            with open(path, "rb") as script:  # noqa: PTH123 - the name is the user's own, spelled as it was given
                if not stat.S_ISREG(os.fstat(script.fileno()).st_mode):
                    raise Refusal("script not a file", 1)
                text = script.read(SCRIPT_MAX_BYTES + 1)
        except IsADirectoryError:
            raise Refusal("script not a file", 1) from None
        except OSError as error:
            raise Refusal(f"script file:: {error.strerror}", 1) from None
    if len(text) > SCRIPT_MAX_BYTES:
        raise unsupported(f"a script of more than {SCRIPT_MAX_BYTES >> 20} MiB")
    if b"\r\n" in text:
        raise Refusal("script contains cr, lf", 1)
    return text if text.endswith(b"\n") or not text else text + b"\n"


def directives(script: bytes) -> list[list[str]]:
    """The words of each `#PBS` line that stands before the first command."""
    found = []
    lines = script.decode("utf-8", "surrogateescape").split("\n")
    for number, line in enumerate(lines):
        stripped = line.lstrip()
        if number == 0 and (stripped.startswith((":", "#!"))):
            continue
        if stripped.startswith(PREFIX):
            found.append(options.words(stripped[len(PREFIX) :]))
        elif stripped and not stripped.startswith("#"):
            break
    return found
