"""Corpora are real text, the same each time, disjoint between training and validation, and large enough to split."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from reconciler.local import indexed
from reconciler.local.corpora import __main__ as program
from reconciler.local.corpora import build, reasoning, tokenizer

LISTS = ["D0", "D1", "D2", "D3"]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    build.build(folder, scale="tiny")
    return folder


def rows(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


def documents(path: Path) -> set[bytes]:
    found = set()
    for _, prefix, _ in rows(path):
        tokens = indexed.IndexedDataset(Path(prefix))
        found |= {tokens.document(number).tobytes() for number in range(len(tokens))}
    return found


@pytest.mark.parametrize("symbol", LISTS)
def test_lists(data: Path, symbol: str) -> None:
    found = rows(data / f"{symbol}.txt")
    assert all(len(row) == 3 and Path(row[1]).is_absolute() for row in found)
    assert sum(Decimal(weight) for weight, _, _ in found) == 1
    assert len({label for _, _, label in found}) == 2
    assert len(found) == 4
    sizes = {row[1]: indexed.IndexedDataset(Path(row[1])).tokens for row in found}
    for weight, prefix, _ in found:
        assert float(weight) == pytest.approx(sizes[prefix] / sum(sizes.values()), abs=1e-9)


@pytest.mark.parametrize("name", LISTS + [f"val-{symbol}" for symbol in LISTS])
def test_every_file_can_be_split(data: Path, name: str) -> None:
    for _, prefix, _ in rows(data / f"{name}.txt"):
        tokens = indexed.IndexedDataset(Path(prefix))
        assert len(tokens) >= build.DOCUMENTS_MIN
        assert tokens.dtype == "uint16"


def test_no_document_is_in_two_datasets(data: Path) -> None:
    found = [documents(data / f"{name}.txt") for name in LISTS + [f"val-{symbol}" for symbol in LISTS]]
    assert sum(map(len, found)) == len(set().union(*found))


def test_building_again_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    build.build(tmp_path, scale="tiny")
    names = sorted(path.name for path in data.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        if not name.endswith(".txt"):
            assert (data / name).read_bytes() == (tmp_path / name).read_bytes()


def test_code_holds_no_docstrings_or_comment_lines(data: Path) -> None:
    tokens = indexed.IndexedDataset(data / "library-code-0")
    text = "".join(tokenizer.decode(tokens.document(number)) for number in range(len(tokens)))
    assert not re.search(r"^\s*#", text, re.MULTILINE)
    assert not re.search(r'def \w+\(self\):\n\s+"""', text)
    assert "return" in text


@pytest.mark.parametrize("kind", [reasoning.arithmetic, reasoning.word_problems])
def test_reasoning_is_right(kind) -> None:  # type: ignore[no-untyped-def]
    equation = re.compile(r"(?<![\d.])(\d+(?: [-+*/] \d+)+)(?: carried)? = (\d+)\b(?! [-+])")
    checked = 0
    for document in kind(60, seed=9):
        for left, right in equation.findall(document):
            assert eval(left) == int(right), document
            checked += 1
    assert checked > 200


def test_reasoning_is_the_same_for_a_seed() -> None:
    assert reasoning.arithmetic(5, seed=1) == reasoning.arithmetic(5, seed=1) != reasoning.arithmetic(5, seed=2)


@pytest.mark.parametrize("text", ["", "plain", "Straße — 学 \N{SNOWMAN}", "nul \0 byte"])
def test_tokens_round_trip(text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokens[-1] == tokenizer.END_OF_DOCUMENT
    assert int(tokens.max()) < tokenizer.VOCABULARY
    assert tokenizer.decode(tokens) == text + "\n\n"


def test_tokenize_peoples_own_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.txt").write_text(f"text {number}\n")
    (tmp_path / "more.jsonl").write_text("".join(f'{{"text": "row {number}", "id": 1}}\n' for number in range(30)))
    prefix = tmp_path / "out" / "mine"
    assert program.main(["tokenize", str(folder), str(tmp_path / "more.jsonl"), "-o", str(prefix)]) == 0
    data = indexed.IndexedDataset(prefix)
    assert len(data) == 60
    assert tokenizer.decode(data.document(1)).startswith("text 1")
    assert f"1 {prefix} mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("a.txt", b"\xff\xfe", "not UTF-8 text", id="binary"),
        pytest.param("a.txt", b" \n", "is empty", id="empty"),
        pytest.param("a.txt", b"one", "has 1 documents|have 1 documents", id="too few"),
        pytest.param(
            "a.jsonl", b'{"text": "x"}\n{"text": 3}\n', "a.jsonl:2: there is no text", id="text of another type"
        ),
        pytest.param("a.jsonl", b'{"text": "x"}\n\n{oops\n', "a.jsonl:3: not JSON", id="bad JSON"),
        pytest.param("a.jsonl", b"[" * 100_000, "a.jsonl:1: not JSON", id="nested without end"),
    ],
)
def test_unusable_input_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert program.main(["tokenize", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 1
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "out.idx").exists()


def test_a_missing_input_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["tokenize", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_a_prefix_with_a_blank_cannot_be_a_column(tmp_path: Path) -> None:
    with pytest.raises(build.BlankInPath, match="three columns"):
        build.write_list(tmp_path / "list.txt", [(1, tmp_path / "my data", "x")])
