"""Which tokens a sample holds: whole epochs, no token lost, the same order for the same request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.local import indexed
from reconciler.local.trainer import samples
from reconciler.local.trainer.environment import BadSetting


def token_file(prefix: Path, documents: int, first: int = 0) -> Path:
    """Documents of 5 tokens each, every token different."""
    indexed.write(prefix, [range(first + 5 * n, first + 5 * n + 5) for n in range(documents)])
    return prefix


@pytest.mark.parametrize(
    ("split", "documents", "ends"),
    [
        pytest.param("990,10,0", 1000, (0, 990, 1000, 1000), id="a hundredth"),
        pytest.param("990,10,0", 51, (0, 50, 51, 51), id="51 documents are enough"),
        pytest.param("990,10,0", 50, (0, 50, 50, 50), id="50 are not"),
        pytest.param("0,100,0", 7, (0, 0, 7, 7), id="all to validation"),
        pytest.param("1,1,1", 4, (0, 2, 3, 4), id="rounding is taken from the ends"),
    ],
)
def test_split(split: str, documents: int, ends: tuple[int, ...]) -> None:
    assert samples.split_documents(split, documents) == ends


@settings(max_examples=60)
@given(documents=st.integers(1, 12), wanted=st.integers(1, 60), seq=st.integers(1, 8))
def test_a_file_repeats_in_whole_epochs(
    tmp_path_factory: pytest.TempPathFactory, documents: int, wanted: int, seq: int
) -> None:
    data = indexed.IndexedDataset(token_file(tmp_path_factory.mktemp("file") / "a", documents))
    found = samples.FileSamples(data, np.arange(documents, dtype=np.int32), wanted, seq, seed=1)
    rows = [found[number] for number in range(wanted)]
    assert all(row.shape == (seq + 1,) for row in rows)
    # The fewest epochs that supply them.
    tokens = 5 * documents
    assert (found.epochs * tokens - 1) // seq >= wanted
    assert found.epochs == 1 or ((found.epochs - 1) * tokens - 1) // seq < wanted
    # A sample's last token is the next one's first, so each token is a target once an epoch at most.
    targets = np.concatenate([row[1:] for row in rows])
    assert np.bincount(targets).max() <= found.epochs


def test_one_epoch_holds_every_token_as_a_target_but_the_first_and_the_rest(tmp_path: Path) -> None:
    data = indexed.IndexedDataset(token_file(tmp_path / "a", 8))
    found = samples.FileSamples(data, np.arange(8, dtype=np.int32), 13, 3, seed=1)
    targets = np.concatenate([found[number][1:] for number in range(13)])
    assert len(set(targets.tolist())) == 39


def test_batches_do_not_depend_on_where_reading_starts(tmp_path: Path) -> None:
    text = f"0.7 {token_file(tmp_path / 'a', 60)} one\n0.3 {token_file(tmp_path / 'b', 60, 1000)} two\n"
    first = samples.open_part(text, "train", "990,10,0", 40, 4, seed=7)
    second = samples.open_part(text, "train", "990,10,0", 40, 4, seed=7)
    assert first is not None and second is not None
    whole = first.batch(0, 40)
    assert np.array_equal(np.concatenate([second.batch(32, 8)]), whole[32:])
    other = samples.open_part(text, "train", "990,10,0", 40, 4, seed=8)
    assert other is not None
    assert not np.array_equal(other.batch(0, 40), whole)


def test_weights_are_shares_of_samples(tmp_path: Path) -> None:
    text = f"3 {token_file(tmp_path / 'a', 60)} one\n1 {token_file(tmp_path / 'b', 60, 1000)} two\n"
    found = samples.open_part(text, "train", "990,10,0", 200, 4, seed=7)
    assert found is not None
    from_b = int((found.batch(0, 200)[:, 0] >= 1000).sum())
    assert from_b == pytest.approx(50, abs=2)


def test_files_of_one_label_are_one_pool(tmp_path: Path) -> None:
    text = "".join(f"1 {token_file(tmp_path / name, 60, start)} same\n" for name, start in (("a", 0), ("b", 1000)))
    found = samples.open_part(text, "train", "990,10,0", 100, 4, seed=7)
    assert found is not None
    assert 30 < int((found.batch(0, 100)[:, 0] >= 1000).sum()) < 70


def test_a_part_with_share_zero_is_off(tmp_path: Path) -> None:
    assert samples.open_part(f"1 {tmp_path / 'none'} x\n", "test", "990,10,0", 10, 4, seed=1) is None


@pytest.mark.parametrize("documents", [1, 50])
def test_a_file_too_small_for_its_validation_slice_is_refused(tmp_path: Path, documents: int) -> None:
    text = f"1 {token_file(tmp_path / 'a', documents)} x\n"
    with pytest.raises(BadSetting, match=f"has {documents} documents, and none of them falls to the valid share"):
        samples.open_part(text, "valid", "990,10,0", 10, 4, seed=1)


def test_reading_past_the_end_is_refused(tmp_path: Path) -> None:
    found = samples.open_part(f"1 {token_file(tmp_path / 'a', 60)} x\n", "train", "990,10,0", 10, 4, seed=1)
    assert found is not None
    with pytest.raises(BadSetting, match="no samples left to consume"):
        found.batch(10, 4)
