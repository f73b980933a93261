"""Tests of `knock train` on items, and of what it holds out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from knock import load
from knock.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from knock.files.corpus import TokenizedText, recorded_settings
from knock.files.split import Split
from knock_training.data import Corpus
from knock_training.recipe import Recipe
from knock_training.sizes import SIZES, SMALLEST
from knock_training.state import read_state, state_path
from knock_training.trainer import train
from tests.cli.test_main import CORPUS, FAST, run

NAMES = [f"{first}{last}" for first in ("An", "Ber", "Clau", "Do", "Em", "Fa") for last in ("na", "ta", "dia", "ra")]
RECIPE = FAST[:6] + FAST[-4:]  # without a shape


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def names(tmp_path: Path) -> str:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tmp_path / "m.safetensors")


def fails(capsys: pytest.CaptureFixture[str], code: int, says: str, *arguments: str) -> None:
    """Check that a command fails with one line on standard error."""
    result, out, err = run(capsys, "train", *arguments)
    assert (result, out) == (code, "")
    assert says in err
    assert err.count("\n") == 1


# Kinds of items


def test_lines(names: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Path(names).open("a", encoding="utf-8") as file:
        file.write("\n  \nAnna\n")
    code, _, err = run(capsys, "train", names, "--lines", "--out", model, *FAST)
    assert code == 0
    count, size = len(NAMES) + 1, sum(map(len, NAMES)) + 4 + len(NAMES) + 1
    distinct = len(set("".join(NAMES)))
    header = f"names.txt: {count} items, {size} characters, ends included, {distinct} distinct, in sequences of 32\n"
    assert header in err
    assert "dropped empty items: 2\n" in err
    trained = load(model)
    assert trained.vocab.has_boundary
    assert "\n" not in trained.vocab
    assert trained.training["corpus"]["items"] == {"kind": "lines"}
    assert trained.training["corpus"]["item_count"] == count
    assert trained.training["validation"] == {"how": "items", "seed": 42}
    results = trained.generate_batch([""], n=20, seed=0, max_new_tokens=100)
    assert any(result.finish_reason == "end" for result in results)


def test_record_gives_the_same_split(names: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads the corpus again by the model's record holds out what was never trained on."""
    held_out = []
    for seed in ("1", "2"):
        assert run(capsys, "train", names, "--lines", "--out", model, "-s", seed, "--force", *FAST)[0] == 0
        trained = load(model)
        text = TokenizedText.read(names, vocab=trained.vocab, **recorded_settings(trained.training))
        assert text.held_out_items == trained.training["corpus"]["validation_items"]
        assert text.sha256 == trained.training["corpus"]["sha256"]
        held_out.append(text.held_out.tolist())
    assert held_out[0] != held_out[1]


def test_paragraphs_and_files(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "poems"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.md").write_text(f"Poem {i}\nis short.\n\nIt has two stanzas, {i}.\n", encoding="utf-8")
    paths = [str(path) for path in sorted(folder.iterdir())]
    _, _, err = run(capsys, "train", *paths, "--paragraphs", "--out", model, *FAST)
    assert "0.md + 1.md + 2.md: 6 items, " in err
    assert "\n" in load(model).vocab
    code, _, err = run(capsys, "train", str(folder), "--files", "--out", model, "--force", *FAST)
    assert code == 0
    assert "poems: 3 items, " in err


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "people.csv"
    rows = [f'{i},"{name}, {i}",Rome' for i, name in enumerate(NAMES)]
    path.write_text("\n".join(["id,name,city", *rows]) + "\n", encoding="utf-8")
    return str(path)


def test_column_and_rows(table: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", table, "--column", "name", "--out", model, *FAST)
    assert code == 0
    assert f"people.csv: {len(NAMES)} items, " in err
    record = load(model).training
    assert record["corpus"]["items"] == {"kind": "column", "column": "name"}
    assert "schema" not in record
    Path(model).unlink()
    assert run(capsys, "train", table, "--rows", "--out", model, *FAST)[0] == 0
    record = load(model).training
    assert record["corpus"]["items"] == {"kind": "rows"}
    assert [column["name"] for column in record["schema"]["columns"]] == ["id", "name", "city"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "CSV"])
def test_tables_need_a_choice(suffix: str, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_text("name\nAnna\n", encoding="utf-8")
    says = (
        f"t.{suffix} is a table; choose --column NAME (an item is a cell), --rows (an item is a row), --lines, or --raw"
    )
    fails(capsys, 2, says, str(path), "--out", model)
    assert not Path(model).exists()


def test_raw_tables(table: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option, items in (("--raw", None), ("--lines", {"kind": "lines"})):
        Path(model).unlink(missing_ok=True)
        assert run(capsys, "train", table, option, "--out", model, *FAST)[0] == 0
        assert load(model).training["corpus"].get("items") == items
    assert load(model).training["corpus"]["item_count"] == len(NAMES) + 1  # the header is a line


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--lines", "--paragraphs"], 2, "argument --paragraphs: not allowed with argument --lines"),
        (["--lines", "--column", "name"], 2, "argument --column: not allowed with argument --lines"),
        (["--raw", "--rows"], 2, "argument --rows: not allowed with argument --raw"),
        (["--rows", "--lowercase"], 2, "--rows keeps tables as they are; drop --lowercase"),
        (["--column", "nam"], 1, "has no column 'nam'; did you mean 'name'?"),
        (["--column", ""], 1, "has no column ''; its columns are 'id', 'name', 'city'"),
        (
            ["--column", "name", "--validation", "blocks"],
            2,
            "--validation blocks is for plain text; items are held out",
        ),
    ],
)
def test_options_that_exclude_each_other(
    table: str, model: str, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    fails(capsys, code, says, table, "--out", model, *arguments)


def test_tables_of_different_columns(
    table: str, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("id,name\n1,Anna\n", encoding="utf-8")
    for arguments in ([table, str(other)], [table, "--validation", str(other)]):
        fails(capsys, 1, "have different columns; use tables of the same columns", *arguments, "--rows", "--out", model)
    fails(capsys, 1, "has no column 'city'", table, str(other), "--column", "city", "--out", model)


def test_what_is_no_table(names: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--column", "name"], ["--rows"]):
        fails(
            capsys,
            1,
            "names.txt' is not known as a table; its name must end in .csv",
            names,
            "--out",
            model,
            *arguments,
        )
        fails(capsys, 2, "needs files, not standard input", "-", "--out", model, *arguments)


# Bad input


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "corpus 'bad.txt' has no items"),
        (b"\n \n", "corpus 'bad.txt' has no items: nothing but white space"),
        (b"Anna\n", "corpus 'bad.txt' has 1 item; training needs at least 2 different ones"),
        (b"Anna\n" * 9, "the 9 items of corpus 'bad.txt' are all equal; training needs at least 2 different ones"),
        (b"Jos\xe9\nAnna\n", "is not UTF-8 text"),
    ],
)
def test_bad_items(content: bytes, says: str, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    code, _, err = run(capsys, "train", str(path), "--lines", "--out", model, *FAST)
    assert code == 1
    assert says in err
    assert err.count("error") == 1
    assert not Path(model).exists()


def test_missing_file(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 1, "cannot read 'none.txt': no such file", "none.txt", "--lines", "--out", model)


def test_few_and_long_items(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "few.txt"
    path.write_text("yes\nno\n" + "long" * 20 + "\n", encoding="utf-8")
    code, _, err = run(capsys, "train", str(path), "--lines", "--out", model, *FAST)
    assert code == 0
    assert "the corpus has only 3 different items, so the held-out ones" in err
    assert "the longest item has 80 characters; the model sees at most 8 at once, its receptive field\n" in err
    code, _, err = run(capsys, "train", str(path), "--lines", "--out", model, "--force", *RECIPE)
    assert code == 0
    assert "the longest item" not in err
    assert read_checkpoint(model).weights.config.longest_window == max(SIZES[SMALLEST].shape["T"])


def test_window_is_as_long_as_the_items(names: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "train", names, "--lines", "--out", model, *RECIPE)[0] == 0
    assert read_checkpoint(model).weights.config.longest_window == 8
    assert run(capsys, "train", names, "--lines", "--out", model, "--force", "--T", "64", *RECIPE)[0] == 0
    assert read_checkpoint(model).weights.config.T == 64


# Going on


def test_resumed_run_holds_out_the_same_items(names: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A resumed run keeps the kind of item, and ends with the weights of an uninterrupted run."""
    arguments = ["train", names, "--out", model, *FAST]
    assert run(capsys, *arguments, "--lines", "--seed", "5")[0] == 0
    whole = read_checkpoint(model)
    Path(model).unlink()
    _interrupt(names, model, whole)
    what = read_state(state_path(model))[0]
    assert what["items"] == {"kind": "lines"}
    assert what["validation"] == {"how": "items", "seed": 5}
    other = Path(names).with_name("other.txt")
    other.write_text("Anna\nZoe\n", encoding="utf-8")
    for options, says in (
        (["--paragraphs"], "items kind was 'lines' and is 'paragraphs'"),
        (["--validation", str(other)], "validation how was 'items' and is 'file'"),
    ):
        code, _, err = run(capsys, *arguments, "--resume", *options)
        assert code == 1
        assert says in err
    code, _, err = run(capsys, *arguments, "--resume")
    assert code == 0
    assert f"names.txt: {len(NAMES)} items, " in err
    resumed = read_checkpoint(model)
    assert resumed.vocab == whole.vocab
    assert resumed.training["validation"] == whole.training["validation"]
    assert all(np.array_equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


def _interrupt(corpus: str, model: str, whole: Checkpoint) -> None:
    """Leave the state of the run of a model, as if it had been interrupted after three steps."""
    text = Corpus.read(corpus, **recorded_settings(whole.training))
    fields = {name: whole.training["recipe"][name] for name in vars(Recipe())}
    recipe = Recipe(**fields | {"betas": tuple(fields["betas"])})
    steps = iter(range(3))
    train(whole.weights.config, text, recipe, state=state_path(model), should_stop=lambda: next(steps, None) is None)


def test_fine_tuning_keeps_the_boundary(
    names: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "train", names, "--lines", "--out", model, *FAST)[0] == 0
    more = tmp_path / "more.txt"
    more.write_text("Anta\nBerra\nDona\n", encoding="utf-8")
    arguments = ["train", str(more), "--vocab-from", model, "--out", str(tmp_path / "n.npz"), "--steps", "2", "--force"]
    for option in ([], ["--lines"]):  # the base says what an item is
        code, _, err = run(capsys, *arguments, *option)
        assert code == 0
        assert "more.txt: 3 items, " in err
        tuned = load(tmp_path / "n.npz")
        assert tuned.vocab == load(model).vocab
        assert tuned.training["corpus"]["items"] == {"kind": "lines"}
    says = f"{model} is a model of items; say what an item of CORPUS is: --lines"
    fails(capsys, 2, says, *arguments[1:], "--raw")


def test_base_that_does_not_say_what_an_item_is(
    names: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "train", names, "--lines", "--out", model, *FAST)[0] == 0
    base = read_checkpoint(model)
    Path(model).unlink()
    write_checkpoint(model, base.weights, base.vocab, {})
    arguments = [names, "--vocab-from", model, "--out", str(tmp_path / "n.npz"), "--steps", "1"]
    fails(capsys, 2, "is a model of items; say what an item of CORPUS is: --lines", *arguments)
    assert run(capsys, "train", *arguments, "--lines")[0] == 0


def test_base_of_plain_text(names: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "train", names, "--out", model, *FAST)[0] == 0
    says = f"{model} is a model of plain text, not of items; drop --lines, or train a new model without --from"
    fails(capsys, 2, says, names, "--lines", "--vocab-from", model, "--out", str(tmp_path / "n.npz"))


# What is held out of plain text


def test_blocks(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "two.txt"
    path.write_text(CORPUS * 10 + "0123456789 " * 400, encoding="utf-8")
    notice = "the last 10%, which is held out, is another kind of text than the rest"
    code, _, err = run(capsys, "train", str(path), "--out", model, *FAST)
    assert code == 0
    assert err.count(notice) == 1
    assert "which --validation blocks holds out\n" in err
    code, _, err = run(capsys, "train", str(path), "--validation", "blocks", "--out", model, "--force", *FAST)
    assert code == 0
    assert notice not in err
    assert load(model).training["validation"] == {"how": "blocks", "seed": 42}
    path.write_text(CORPUS * 10, encoding="utf-8")
    assert notice not in run(capsys, "train", str(path), "--out", model, "--force", *FAST)[2]
    assert load(model).training["validation"] == Split().to_record() == {"how": "end"}


def test_validation_file(tmp_path: Path, names: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, other = tmp_path / "mary.txt", tmp_path / "other.txt"
    corpus.write_text(CORPUS, encoding="utf-8")
    other.write_text("Mary had another lamb.\n" * 3, encoding="utf-8")
    assert run(capsys, "train", str(corpus), "--validation", str(other), "--out", model, *FAST)[0] == 0
    record = load(model).training
    assert record["validation"] == {"how": "file", "file": str(other)}
    assert record["corpus"]["validation_characters"] == 69
    assert record["corpus"]["characters"] == len(CORPUS) + 69
    other.write_text("Anna\nZoe\n", encoding="utf-8")
    arguments = ["train", names, "--lines", "--validation", str(other), "--out", model, "--force", *FAST]
    assert run(capsys, *arguments)[0] == 0
    record = load(model).training
    assert (record["corpus"]["item_count"], record["corpus"]["validation_items"]) == (len(NAMES) + 2, 2)


def test_bad_validation(tmp_path: Path, names: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    says = "cannot read 'none.txt': no such file"
    fails(capsys, 1, says, names, "--out", model, "--validation", "none.txt")
    says = "--validation and CORPUS name the same file"
    fails(capsys, 2, says, names, "--out", model, "--validation", names)
    empty = tmp_path / "empty.txt"
    empty.touch()
    code, _, err = run(capsys, "train", names, "--out", model, "--validation", str(empty), *FAST)
    assert code == 1
    assert "empty.txt' is empty" in err


def test_parquet_is_no_text(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1")
    for option in ((), ("--lines",), ("--raw",), ("--files",)):
        fails(capsys, 2, "is a Parquet table; choose --column NAME", str(path), "--out", model, *option)
    assert not Path(model).exists()


def test_a_file_without_a_header_shows_in_the_names_of_its_columns(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Tom,Lee\n" + "Ana,Ray\nJim,Fox\n" * 5, encoding="utf-8")
    code, _, err = run(capsys, "train", str(path), "--rows", "--out", model, *FAST)
    assert (code, "2 columns: 'Tom', 'Lee'\n" in err) == (0, True)


def test_a_name_that_is_none_of_a_model_file_is_a_usage_error(
    names: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = str(tmp_path / "m.bin")
    fails(capsys, 2, "argument -o/--out: must end in .safetensors or .npz", names, "--lines", "--out", wrong)
    upper = tmp_path / "M.NPZ"
    assert run(capsys, "train", names, "--lines", "--out", str(upper), *FAST)[0] == 0
    assert read_checkpoint(upper).vocab is not None
