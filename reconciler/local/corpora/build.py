"""Four training datasets and four frozen validation sets, as token files and weighted lists.

| dataset | holds | corpora | shift from D0 |
|---|---|---|---|
| D0 | the language reference; docstrings of library functions | reference, library-docs | (pretraining) |
| D1 | docstrings of modules, classes and packages | guides, package-docs | weak |
| D2 | program source, without docstrings and comments | library-code, package-code | strong |
| D3 | worked reasoning in steps | arithmetic, word-problems | strong |

A document goes to training or validation by its own digest, so the two never share one, whatever else changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Final

from reconciler.local import indexed
from reconciler.local.corpora import reasoning, sources, tokenizer

SCALES: Final = {"quickstart": 1.0, "tiny": 0.3}
"""Scale → share of the text and of the generated documents that is used."""
SHARDS: Final = 2
DOCUMENTS_MIN: Final = 51
"""With the launcher's split 990,10,0 fewer documents round to an empty validation slice."""
VALIDATION_ONE_IN: Final = 10
_WEIGHT_DIGITS: Final = Decimal("0.0000000001")

Corpora = dict[str, list[str]]


class TooFewDocuments(ValueError):
    """A token file would have fewer documents than the trainer can split."""


class BlankInPath(ValueError):
    """A path with a blank in it, which a list of three columns cannot hold."""


def datasets(scale: str = "quickstart") -> dict[str, Corpora]:
    """Dataset symbol → corpus label → documents; the same for one Python version."""
    share = SCALES[scale]
    found = sources.harvest(share)
    return {
        "D0": {"reference": sources.topics(), "library-docs": found.library_docs},
        "D1": {"guides": found.module_docs + found.class_docs, "package-docs": found.package_docs},
        "D2": {"library-code": found.library_code, "package-code": found.package_code},
        "D3": {
            "arithmetic": reasoning.arithmetic(int(1_800 * share), seed=3),
            "word-problems": reasoning.word_problems(int(1_500 * share), seed=4),
        },
    }


def build(directory: Path, *, scale: str = "quickstart") -> None:
    """Write `<corpus>-<n>.bin/.idx`, lists `D0.txt` … `D3.txt` and `val-D0.txt` … into `directory`.

    Every file appears whole under its name; running again writes the same bytes.

    Raises:
        TooFewDocuments: this Python installation carries too little text.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # Within and across datasets: a text that is both training and validation data would flatter the loss.
    seen: set[bytes] = set()
    for symbol, corpora in datasets(scale).items():
        training: list[tuple[int, Path, str]] = []
        validation: list[tuple[int, Path, str]] = []
        for label, documents in corpora.items():
            kept, held_out = _split(documents, seen)
            for shard in range(SHARDS):
                prefix = directory.absolute() / f"{label}-{shard}"
                training.append((tokenize(kept[shard::SHARDS], prefix), prefix, label))
            prefix = directory.absolute() / f"val-{label}"
            validation.append((tokenize(held_out, prefix), prefix, label))
        write_list(directory / f"{symbol}.txt", training)
        write_list(directory / f"val-{symbol}.txt", validation)


def _split(documents: Iterable[str], seen: set[bytes]) -> tuple[list[str], list[str]]:
    kept: list[str] = []
    held_out: list[str] = []
    for document in documents:
        digest = hashlib.sha256(document.encode()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        (held_out if digest[0] % VALIDATION_ONE_IN == 0 else kept).append(document)
    # Fill from training until the trainer can split the file; still disjoint, still by digest order.
    kept.sort(key=_digest)
    while len(held_out) < DOCUMENTS_MIN + 1 and len(kept) > SHARDS * DOCUMENTS_MIN:
        held_out.append(kept.pop())
    return kept, held_out


def _digest(document: str) -> bytes:
    return hashlib.sha256(document.encode()).digest()


def tokenize(documents: list[str], prefix: Path) -> int:
    """Write one token file; returns its tokens.

    Raises:
        TooFewDocuments: fewer than the trainer can split.
    """
    if len(documents) < DOCUMENTS_MIN:
        raise TooFewDocuments(
            f"{prefix} would have {len(documents)} documents; a token file needs at least {DOCUMENTS_MIN}, or the "
            "trainer's split 990,10,0 leaves its validation slice empty. Give more text, or cut it into more documents."
        )
    return indexed.write(
        prefix, (tokenizer.encode(document) for document in documents), indexed.token_type(tokenizer.VOCABULARY)
    )


def refuse_blanks(*columns: str) -> None:
    """Raise BlankInPath for a column that the trainer would read as two."""
    for column in columns:
        if len(column.split()) != 1:
            raise BlankInPath(
                f"{column!r} has a blank in it, and data lists are three columns parted by blanks: choose "
                "another folder."
            )


def write_list(path: Path, rows: list[tuple[int, Path, str]]) -> None:
    """Weighted list `weight prefix corpus`, each weight the file's share of the tokens; the weights sum to exactly 1.

    Raises:
        BlankInPath: a prefix or label has whitespace in it.
    """
    for _, prefix, label in rows:
        refuse_blanks(f"{prefix}", label)
    total = sum(tokens for tokens, _, _ in rows)
    weights = [(Decimal(tokens) / total).quantize(_WEIGHT_DIGITS) for tokens, _, _ in rows]
    weights[0] += 1 - sum(weights)
    text = "".join(f"{weight} {prefix} {label}\n" for weight, (_, prefix, label) in zip(weights, rows, strict=True))
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
