"""From a weighted list to sample number i: which SEQ + 1 tokens the trainer sees, resumable at any i.

Each file's documents are shuffled (per pass when they repeat), laid end to end and cut every SEQ tokens; the cuts are
shuffled. All follows from the seed and the number of samples asked for, so the same request gives the same order. The
launcher also caches these indices on disk, under a key that misses the files and weights; here nothing is cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconciler.local.indexed import IndexedDataset
from reconciler.local.trainer import blend
from reconciler.local.trainer.environment import BadSetting

PARTS = ("train", "valid", "test")
DOCUMENTS_MIN = 51


def split_documents(split: str, documents: int) -> tuple[int, int, int, int]:
    """Boundaries of the train, validation and test documents of a file, rounded as the launcher rounds."""
    shares = [float(share) for share in split.split(",")]
    total = sum(shares)
    ends = [0]
    for share in shares:
        ends.append(ends[-1] + round(share / total * float(documents)))
    excess = ends[-1] - documents
    return ends[0], ends[1] - excess, ends[2] - excess, ends[3] - excess


class FileSamples:
    """Samples of one file: `samples` of them at least, the file repeated as often as that takes."""

    def __init__(self, data: IndexedDataset, documents: NDArray[np.int32], samples: int, seq: int, seed: int) -> None:
        self._data, self._seq = data, seq
        tokens = int(data.sizes[documents].sum(dtype=np.int64))
        self.epochs = _epochs(tokens, seq, samples)
        separate_last = self.epochs > 1 and _last_epoch_is_short(tokens, seq, samples, self.epochs)
        draw = np.random.RandomState(seed)
        self._order = _document_order(documents, self.epochs, separate_last, draw)
        self._starts = np.concatenate([[0], np.cumsum(data.sizes[self._order], dtype=np.int64)])
        count = (self.epochs * tokens - 1) // seq
        first = ((self.epochs - 1) * tokens - 1) // seq if separate_last else count
        head, tail = np.arange(first), np.arange(first, count)
        draw.shuffle(head)
        draw.shuffle(tail)
        self._shuffled = np.concatenate([head, tail])

    def __getitem__(self, number: int) -> NDArray[np.int64]:
        """SEQ + 1 tokens: inputs and, one later, targets."""
        position = int(self._shuffled[number]) * self._seq
        wanted = self._seq + 1
        place = int(np.searchsorted(self._starts, position, side="right")) - 1
        offset = position - int(self._starts[place])
        pieces: list[NDArray[Any]] = []
        while wanted:
            piece = self._data.document(int(self._order[place]), offset, wanted)
            pieces.append(piece)
            wanted -= len(piece)
            place, offset = place + 1, 0
        return np.concatenate(pieces).astype(np.int64)


def _epochs(tokens: int, seq: int, samples: int) -> int:
    """Fewest passes e with (e · tokens − 1) // seq ≥ samples."""
    if tokens < 2:
        raise BadSetting("a file of the list has no tokens to train on.")
    epochs = -(-(samples * seq + 1) // tokens)
    return max(1, epochs)


def _last_epoch_is_short(tokens: int, seq: int, samples: int, epochs: int) -> bool:
    """Less than 80 % of the last pass is needed: it is shuffled apart, so that no document comes early and twice."""
    before = ((epochs - 1) * tokens - 1) // seq
    return samples - before < int(0.80 * ((tokens - 1) // seq))


def _document_order(
    documents: NDArray[np.int32], epochs: int, separate_last: bool, draw: np.random.RandomState
) -> NDArray[np.int32]:
    if separate_last:
        first = _document_order(documents, epochs - 1, False, draw)
        return np.concatenate([first, _document_order(documents, 1, False, draw)])
    order = np.tile(documents, epochs).astype(np.int32)
    draw.shuffle(order)
    return order


class CorpusSamples:
    """All files of one corpus label as one pool, shuffled."""

    def __init__(self, files: Sequence[tuple[FileSamples, int]], seed: int) -> None:
        self._files = [samples for samples, _ in files]
        counts = np.array([count for _, count in files], dtype=np.int64)
        self._ends = np.cumsum(counts)
        self.size = int(counts.sum())
        self._shuffled = np.arange(self.size)
        np.random.RandomState(seed).shuffle(self._shuffled)

    def __getitem__(self, number: int) -> NDArray[np.int64]:
        flat = int(self._shuffled[number])
        file = int(np.searchsorted(self._ends, flat, side="right"))
        return self._files[file][flat - (int(self._ends[file - 1]) if file else 0)]


class Blend:
    """The samples of a weighted list in the order they are trained on."""

    def __init__(self, rows: Sequence[blend.Row], part: int, split: str, samples: int, seq: int, seed: int) -> None:
        counts = blend.samples_per_row([row.weight for row in rows], samples)
        pools: dict[str, list[tuple[FileSamples, int]]] = {}
        for row, count in zip(rows, counts, strict=True):
            if count:
                pools.setdefault(row.corpus, []).append((_open(row, part, split, count, seq, seed), count))
        self._pools = [CorpusSamples(pools[label], seed) for label in sorted(pools)]
        total = sum(pool.size for pool in self._pools)
        self._order = blend.interleave([pool.size / total for pool in self._pools], total)

    def __len__(self) -> int:
        return len(self._order)

    def batch(self, first: int, count: int) -> NDArray[np.int64]:
        """Samples `first` to `first + count` as rows [count, SEQ + 1].

        Raises:
            BadSetting: they lie past the end of what was asked for.
        """
        if first + count > len(self._order):
            raise BadSetting(f"no samples left to consume: {first}, {len(self._order)}")
        return np.stack([self._pools[pool][number] for pool, number in self._order[first : first + count]])


def _open(row: blend.Row, part: int, split: str, samples: int, seq: int, seed: int) -> FileSamples:
    data = IndexedDataset(Path(row.prefix))
    ends = split_documents(split, len(data))
    documents = np.arange(ends[part], ends[part + 1], dtype=np.int32)
    if not len(documents):
        raise BadSetting(
            f"{row.prefix} has {len(data)} documents, and none of them falls to the {PARTS[part]} share of the split "
            f"{split}: a token file needs at least {DOCUMENTS_MIN} documents."
        )
    return FileSamples(data, documents, samples, seq, seed)


def open_part(text: str, part: str, split: str, samples: int, seq: int, seed: int) -> Blend | None:
    """The train, valid or test samples of a list, or None where the split turns that part off."""
    number = PARTS.index(part)
    if not int(split.split(",")[number]):
        return None
    return Blend(blend.parse_list(text), number, split, samples, seq, seed)
