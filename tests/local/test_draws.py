"""From a declared buffer to the samples that the trainer draws: shares as declared, within sampling error."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reconciler.domain import buffer
from reconciler.domain.mixture import Mixed, Source, expand, mix
from reconciler.domain.selection import Selected, select
from reconciler.local import indexed
from reconciler.local.trainer import samples
from reconciler.model.datalist import DataList, Row, render
from reconciler.model.manifests import Buffer, Selection
from reconciler.model.scorefile import Scores

DOCUMENTS, LENGTH = 400, 50
SAMPLES = 4000


def dataset(folder: Path, place: int) -> DataList:
    """Four files, whose tokens say which dataset and file they are of."""
    rows = []
    for file in range(4):
        prefix = folder / f"D{place}-{file}"
        indexed.write(prefix, [[10 * place + file] * LENGTH for _ in range(DOCUMENTS)])
        rows.append(Row(Fraction(1, 4), str(prefix), "text"))
    return DataList.from_rows(rows)


@pytest.mark.parametrize(
    "weights", [{"D1": "0.3", "D2": "0.1"}, {"D1": "0.02", "D2": "0.98"}, {"D1": "0", "D2": "1"}], ids=str
)
def test_the_declared_weights_are_what_is_drawn(tmp_path: Path, weights: dict[str, str]) -> None:
    of = Buffer(
        composition="declared",
        weights={symbol: Decimal(weight) for symbol, weight in weights.items()},
        select={"D2": Selection.model_validate({"scores": {"here": {"path": "s"}}, "cap": 2, "order": "lowest"})},
    )
    lists = {f"D{place}": dataset(tmp_path, place) for place in range(4)}
    two = lists["D2"]
    scores = Scores(two.prefixes, tuple(map(Decimal, (4, 1, 3, 2))), (1, 1, 1, 1))
    taken = select(two, 4, of.select["D2"], scores)
    assert isinstance(taken, Selected)
    lists["D2-buffer"] = taken.list
    shares = buffer.composition({"D1": 1, "D2": 1}, of)
    held = {"buffer": {buffer.label_in(of, symbol): share for symbol, share in shares.items()}}
    # Mix A with a little of D2 itself beside what the buffer takes of it.
    terms = {"D0": Decimal("0.3"), "D3": Decimal("0.2"), "D2": Decimal("0.1"), "buffer": Decimal("0.4")}
    mixture = expand(terms, held)
    mixed = mix([Source(label, share, lists[label]) for label, share in mixture.items()])
    assert isinstance(mixed, Mixed)
    part = samples.open_part(render(mixed.list), "train", "990,10,0", SAMPLES, 8, seed=1234)
    assert part is not None
    drawn = part.batch(0, SAMPLES)[:, 0]
    wanted = {int(Path(prefix).name[1]) * 10 + int(Path(prefix).name[3]): float(share)
              for prefix, share in zip(mixed.list.prefixes, mixed.list.shares, strict=True)}  # fmt: skip
    assert set(np.unique(drawn).tolist()) <= set(wanted)
    for token, share in wanted.items():
        error = 4 * (SAMPLES * share * (1 - share)) ** 0.5
        assert abs(int((drawn == token).sum()) - SAMPLES * share) <= error, f"file {token}"
    by_dataset = [float((drawn // 10 == place).mean()) for place in range(4)]
    expected = [0.3, 0.4 * float(shares["D1"]), 0.1 + 0.4 * float(shares["D2"]), 0.2]
    assert by_dataset == pytest.approx(expected, abs=4 * 0.5 / SAMPLES**0.5)
