"""`python -m reconciler.local.corpora tokenize INPUT... -o PREFIX`: people's own text to `.bin/.idx`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from reconciler.local.corpora import build, tokenizer


class NotText(ValueError):
    """An input that cannot be tokenised; the message says where and why."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or 1 with one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m reconciler.local.corpora", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "tokenize",
        help="write a token file from text",
        description="Each text file is one document; a .jsonl file holds one a line, in its field 'text'. "
        "Tokens are bytes of UTF-8, so the file goes with the trainer's ByteTokenizer.",
    )
    command.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="text or .jsonl file, or a directory")
    command.add_argument(
        "-o", "--output", required=True, type=Path, metavar="PREFIX", help="writes PREFIX.bin, PREFIX.idx"
    )
    options = parser.parse_args(arguments)
    try:
        documents = [text for path in options.inputs for text in read(path)]
        options.output.parent.mkdir(parents=True, exist_ok=True)
        tokens = build.tokenize(documents, options.output)
    except (NotText, build.TooFewDocuments, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    print(f"{options.output}.bin: {len(documents)} documents, {tokens} tokens ({tokenizer.NAME})")
    print("As a row of a data list (weight, prefix, corpus):")
    print(f"1 {options.output.absolute()} {options.output.name}")
    return 0


def read(path: Path) -> Iterator[str]:
    """Documents of one file, or of every file under a directory in name order. Raises NotText."""
    if path.is_dir():
        for inner in sorted(inner for inner in path.rglob("*") if inner.is_file()):
            yield from read(inner)
        return
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise NotText(f"{path}: no such file.") from None
    except UnicodeDecodeError as problem:
        raise NotText(
            f"{path}: not UTF-8 text (byte {problem.start}). Convert it first, such as: iconv -t UTF-8 {path}"
        ) from None
    if path.suffix == ".jsonl":
        yield from _rows(path, text)
    elif text.strip():
        yield text
    else:
        raise NotText(f"{path}: the file is empty; leave it out.")


def _rows(path: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise NotText(f'{path}:{number}: not JSON. Each line is an object such as {{"text": "…"}}.') from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"]:
            raise NotText(f"{path}:{number}: there is no text under 'text'.")
        yield row["text"]


if __name__ == "__main__":
    sys.exit(main())
