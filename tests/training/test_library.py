"""Training from Python: texts, files and items; arguments; and the same weights as the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import knock
import knock_training
from knock.cli.main import main
from knock.errors import CheckpointError, ConfigError, KnockError, TextError, TrainingError
from knock.files.corpus import TokenizedText, recorded_settings
from knock.files.items import Items
from knock_training.progress import Progress

SHAPE: dict[str, Any] = {"T": 8, "n_emb": 8, "nodes": 8, "n_blocks": 1, "n_heads": 2}
TINY: dict[str, Any] = {**SHAPE, "steps": 12, "batch_chars": 128, "eval_interval": 6, "threads": 1}
WORDS = [a + b + c for a in "bdgk" for b in "aeiou" for c in "lmnr"]
TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path


def test_list_of_items_makes_a_model_of_items() -> None:
    lm = knock_training.train(WORDS, **TINY)
    assert lm.vocab.boundary is not None
    assert lm.training["ended"] == "done"
    assert lm.training["steps_done"] == 12
    assert lm.training["validation"] == {"how": "items", "seed": 42}
    assert set(lm.training["evaluation"]) == {"items"}
    assert len(lm.items(5, seed=1, max_length=6)) == 5


def test_values_for_each_block() -> None:
    shape = {"T": (2, 8), "head_type": ["reweight", "hybrid"], "reweight_T": 4, "n_blocks": 2}
    lm = knock_training.train(TEXT, **{**TINY, **shape})
    config = lm.model.config
    assert (config.windows, config.head_types, config.reweight_windows) == ((2, 8), ("reweight", "hybrid"), (2, 4))
    assert lm.training["recipe"]["sequence_length"] == 4 * 8
    assert len(lm.generate("the", max_new_tokens=20, seed=1).text) == 20
    with pytest.raises(ConfigError, match="T must be one value, or one for each of n_blocks=3"):
        knock_training.train(TEXT, **{**TINY, **shape, "n_blocks": 3})


def test_string_is_a_text() -> None:
    lm = knock_training.train(TEXT, **TINY)
    assert not lm.vocab.has_boundary
    assert set(lm.training["evaluation"]) == {"block_256", "stream"}
    assert len(lm.generate("the", max_new_tokens=20, seed=1).text) == 20
    assert knock_training.train("\n".join(WORDS), items="lines", **TINY).vocab.has_boundary


def test_the_weights_are_those_of_the_command(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["train", "words.txt", "--lines", "--out", "command.safetensors", "--size", "nano", *options]) == 0
    lm = knock_training.train(words, items="lines", size="nano", **TINY)
    assert lm.digest == knock.load(tmp_path / "command.safetensors").digest
    given = knock_training.train(WORDS, size="nano", **TINY)
    assert given.digest == lm.digest
    assert knock_training.train(WORDS, size="nano", seed=1, **TINY).digest != lm.digest


def test_files_folders_and_tables(words: Path, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, word in enumerate(WORDS[:20]):
        (folder / f"{number}.txt").write_text(word, encoding="utf-8")
    assert knock_training.train(folder, items="files", **TINY).training["corpus"]["item_count"] == 20
    assert knock_training.train([words, folder], **TINY).training["corpus"]["name"] == "words.txt + texts"
    table = tmp_path / "t.csv"
    table.write_text("word,n\n" + "".join(f"{word},1\n" for word in WORDS), encoding="utf-8")
    lm = knock_training.train(table, column="word", **TINY)
    assert lm.training["corpus"]["items"] == {"kind": "column", "column": "word"}
    assert "," not in lm.vocab.characters
    with pytest.raises(ConfigError, match=r"is a table; pass column=NAME"):
        knock_training.train(table, **TINY)
    assert "," in knock_training.train(table, items="raw", **TINY).vocab.characters


ROWS = [
    {
        "word": word,
        "n": number % 7,
        "price": 0.25 * number,
        "old": number % 3 == 0,
        "note": None if number % 4 else "new",
    }
    for number, word in enumerate(WORDS)
]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rows_of_a_file_have_the_schema_of_the_command(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = Path(f"t.{form}")
    if form == "csv":
        lines = ["word,n", *(f"{row['word']},{row['n']}" for row in ROWS)]
    else:
        lines = [json.dumps(row) for row in ROWS]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["train", table.name, "--rows", "--out", "command.safetensors", "--size", "nano", *options]) == 0
    lm = knock_training.train(table, items="rows", size="nano", out="own.safetensors", **TINY)
    assert lm.schema is not None
    assert lm.schema == knock.load("command.safetensors").schema
    assert lm.schema == knock.load("own.safetensors").schema
    assert lm.digest == knock.load("command.safetensors").digest


@pytest.mark.parametrize("items", [None, "rows"])
def test_rows_can_be_dicts(items: Literal["rows"] | None, tmp_path: Path) -> None:
    lm = knock_training.train((dict(row) for row in ROWS), items=items, **TINY)
    assert lm.training["corpus"]["name"] == "rows"
    table = tmp_path / "t.jsonl"
    table.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
    of_file = knock_training.train(table, items="rows", **TINY)
    assert (lm.schema, lm.digest) == (of_file.schema, of_file.digest)
    rows = [json.loads(text) for text in lm.items(20, seed=1)]
    assert {tuple(row) for row in rows} == {tuple(ROWS[0])}
    assert all(0 <= row["n"] <= 6 and type(row["old"]) is bool and row["note"] in (None, "new") for row in rows)


def test_an_item_can_be_a_value_of_dicts() -> None:
    lm = knock_training.train(ROWS, column="word", **TINY)
    assert lm.schema is None
    assert lm.digest == knock_training.train(WORDS, **TINY).digest


def test_validation(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("the lazy fox\n" * 5, encoding="utf-8")
    assert knock_training.train(TEXT, validation="blocks", **TINY).training["validation"]["how"] == "blocks"
    lm = knock_training.train(TEXT, validation=other, **TINY)
    assert lm.training["corpus"]["validation_characters"] == 65
    with pytest.raises(TextError, match="items cannot be split by 'blocks'"):
        knock_training.train(WORDS, validation="blocks", **TINY)


def test_validation_items_can_be_a_list(tmp_path: Path, words: Path) -> None:
    """With the weights and the losses of the same items in files."""
    own, other = ["xel", "bal", "", "kux"], tmp_path / "other.txt"
    other.write_text("\n".join(own) + "\n", encoding="utf-8")
    lm = knock_training.train(WORDS, validation=iter(own), **TINY)
    of_files = knock_training.train(words, items="lines", validation=other, **TINY)
    assert lm.digest == of_files.digest
    assert set("xu") <= set(lm.vocab.characters)
    assert lm.training["evaluation"] == of_files.training["evaluation"]
    counts = ("characters", "validation_characters", "item_count", "validation_items", "sha256")
    assert [lm.training["corpus"][name] for name in counts] == [of_files.training["corpus"][name] for name in counts]
    assert lm.training["corpus"]["validation_items"] == 3
    assert lm.training["validation"] == {"how": "given"}
    lm.save(path := tmp_path / "m.safetensors")
    assert knock.load(path).training == lm.training
    with pytest.raises(KnockError, match="were given as a list, so the corpus lacks them; score them as a file of"):
        TokenizedText.read(words, vocab=lm.vocab, **{**recorded_settings(lm.training), "items": Items(kind="lines")})


def test_validation_rows_can_be_a_list() -> None:
    held_out = [row for row in ROWS if row["n"] == 3]
    lm = knock_training.train(ROWS, validation=held_out, **TINY)
    assert lm.training["corpus"]["validation_items"] == len(held_out)
    assert lm.schema == knock_training.train(ROWS, **TINY).schema
    cells = knock_training.train(ROWS, column="word", validation=held_out, **TINY)
    assert cells.training["corpus"]["validation_characters"] == 4 * len(held_out)


def test_characters_can_be_left_out() -> None:
    lm = knock_training.train([*WORDS, "BAL", "xyl"], lowercase=True, min_count=2, **TINY)
    assert lm.vocab.lowercase
    assert not set("xy") & set(lm.vocab.characters)


def test_file_has_the_best_weights(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    lm = knock_training.train(WORDS, out=out, **TINY)
    loaded = knock.load(out)
    assert loaded.digest == lm.digest
    assert loaded.training == lm.training


def test_model_is_there_after_an_interrupt(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"

    def stop(progress: Progress) -> None:
        if progress.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(knock_training.Interrupted) as caught:
        knock_training.train(WORDS, out=out, progress=stop, **TINY)
    lm = caught.value.model
    assert {name: lm.training[name] for name in ("ended", "steps_done", "best_step")} == {
        "ended": "interrupted",
        "steps_done": 8,
        "best_step": 6,
    }
    assert len(lm.items(5, seed=1, max_length=6)) == 5
    loaded = knock.load(out)
    assert (loaded.digest, loaded.training) == (lm.digest, lm.training)
    assert str(caught.value) == (
        "training was interrupted after 8 steps; the attribute `model` has the model of step 6"
    )
    with pytest.raises(knock_training.Interrupted) as caught:
        knock_training.train(WORDS, progress=stop, **TINY)
    assert caught.value.model.digest == lm.digest


def test_interrupt_before_the_first_evaluation_has_the_latest_model(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    out = tmp_path / "m.safetensors"
    with pytest.raises(knock_training.Interrupted, match=r"after 3 steps; .* of step 3") as caught:
        knock_training.train(WORDS, out=out, progress=stop, **TINY)
    assert caught.value.model.training["best_validation_loss"] is None
    assert caught.value.model.generate(seed=1, max_new_tokens=5).seed == 1
    assert not out.exists()  # as with the command, weights without a loss replace no model


def test_interrupt_of_the_last_evaluation_keeps_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    whole = knock_training.train(WORDS, **TINY)
    monkeypatch.setattr("knock_training.library.evaluate", interrupted)
    with pytest.raises(knock_training.Interrupted) as caught:
        knock_training.train(WORDS, **TINY)
    assert caught.value.model.digest == whole.digest


def test_interrupted_model_that_cannot_be_written_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 8:
            monkeypatch.setattr("knock_training.library.write_checkpoint", full)
            raise KeyboardInterrupt

    def full(*_: object) -> None:
        raise CheckpointError("the disk is full")

    with pytest.raises(knock_training.Interrupted) as caught:
        knock_training.train(WORDS, out=tmp_path / "m.safetensors", progress=stop, **TINY)
    assert caught.value.__notes__ == ["The model was not written: the disk is full"]
    assert caught.value.model.training["best_step"] == 6


def test_ctrl_c_keeps_the_model() -> None:
    code = """
import os, signal, knock_training
def progress(now):
    if now.step == 8:
        os.kill(os.getpid(), signal.SIGINT)
if __name__ == "__main__":
    words = [a + b + c for a in "bdgk" for b in "aeiou" for c in "lmnr"]
    try:
        knock_training.train(words, T=8, n_emb=8, nodes=8, n_blocks=1, n_heads=2, steps=100_000, batch_chars=128,
                             eval_interval=6, threads=1, progress=progress)
    except knock_training.Interrupted as interrupt:
        print(interrupt.model.training["best_step"], len(interrupt.model.items(3, seed=1, max_length=6)))
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=300)
    assert said == "6 3\n"


def test_progress_is_printed_at_each_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    knock_training.train(WORDS, progress=True, **TINY)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("  ")[0] for line in err.splitlines()] == ["step 6/12", "step 12/12"]


def test_number_of_threads_is_restored() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        knock_training.train(WORDS, **TINY)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_minutes_set_the_number_of_steps() -> None:
    lm = knock_training.train(WORDS, minutes=0.1, threads=1, batch_chars=64, **SHAPE)
    assert lm.training["steps_done"] >= 100
    assert lm.training["seconds"] < 60
    with pytest.raises(TrainingError, match="there is time for 0 steps"):
        knock_training.train(WORDS, minutes=1e-5, threads=1, **SHAPE)


@pytest.mark.parametrize(
    ("corpus", "options", "error", "says"),
    [
        (WORDS, {"size": "large"}, ConfigError, "size must be auto, nano or small, got 'large'"),
        (WORDS, {"minutes": 0}, ConfigError, "minutes must be a number above 0, got 0"),
        (WORDS, {"minutes": 1, "steps": 5}, ConfigError, "minutes sets the number of steps"),
        (WORDS, {"stepz": 5}, ConfigError, "no argument 'stepz'"),
        (WORDS, {"dropout": 2}, ConfigError, "dropout"),
        (WORDS, {"n_heads": 3}, ConfigError, "n_heads|n_emb"),
        (WORDS, {"seed": -1}, ConfigError, "seed"),
        (WORDS, {"threads": 0}, ConfigError, "threads"),
        (WORDS, {"items": "words"}, ConfigError, "items must be one of lines, paragraphs"),
        (WORDS, {"items": "lines"}, TextError, "the items are given as a list"),
        (WORDS, {"items": "lines", "column": "a"}, ConfigError, "drop items"),
        (WORDS, {"out": "m.txt"}, CheckpointError, "m.txt"),
        ([], {}, TextError, "corpus 'items' has no items"),
        (WORDS, {"validation": "words.txt"}, ConfigError, "validation cannot be a file if the items are a list"),
        (TEXT, {"validation": WORDS}, ConfigError, "validation can be a list only if the corpus is a list"),
        (WORDS, {"validation": [{"a": 1}]}, ConfigError, r"must be a list of strings, as the corpus is, got {'a': 1}"),
        ([{"a": 1}], {"validation": WORDS}, ConfigError, "must be a list of dicts, as the corpus is, got 'bal'"),
        (WORDS, {"validation": ["a", 1]}, TextError, "a validation that is a list must have strings, .* got 1 in it"),
        (WORDS, {"validation": []}, TextError, "corpus 'validation' has no items"),
        (WORDS, {"validation": [" "]}, TextError, "corpus 'validation' has no items"),
        (TEXT, {"validation": 0.1}, ConfigError, "validation must be 'end', 'blocks', a file or a list, got 0.1"),
        (WORDS, {"lr": 1e-3}, ConfigError, "train has no argument 'lr'; use learning_rate"),
        (WORDS, {"epochs": 3}, ConfigError, "train has no argument 'epochs'; use steps"),
        (WORDS, {"batch_size": 8}, ConfigError, "train has no argument 'batch_size'; use batch_chars, in characters"),
        (WORDS, {"learning_rat": 3}, ConfigError, r"no argument 'learning_rat'; did you mean learning_rate\?"),
        (WORDS, {"minute": 3}, ConfigError, r"train has no argument 'minute'; did you mean minutes\?"),
        (WORDS, {"zzz": 3}, ConfigError, "no argument 'zzz'; fields of the shape and recipe are T, n_emb"),
        (["a"], {}, TextError, "1 item"),
        ([1, 2], {}, TextError, "strings, paths or dicts only, got 1"),
        (["a", Path("b")], {}, TextError, "strings, paths or dicts only"),
        ([{"a": 1}, "b"], {}, TextError, "strings, paths or dicts only, got 'b'"),
        ([{"a": 1}, {1: 2}], {}, TextError, "row 2 of rows has the key 1; the names of columns must be strings"),
        ([{"a": {1}}], {}, TextError, "row 1 of rows has \\{1\\} in 'a', which JSON cannot hold"),
        ([{"a": float("nan")}], {}, TextError, "row 1 of rows has nan in 'a', which JSON cannot hold; pass"),
        ([{}], {}, TextError, "rows is empty"),
        ([{"a": 1}], {"items": "raw"}, ConfigError, "a list of dicts has rows of a table, not raw; drop items"),
        ([{"a": 1}], {"column": "b"}, TextError, "rows has no column 'b'; its columns are 'a'"),
        (3, {}, TextError, "a text, a path, or a list of items, rows or paths, got 3"),
        (b"abc", {}, TextError, "a text, a path, or a list"),
        ("", {}, TextError, "empty"),
        (Path("nowhere.txt"), {}, TextError, "nowhere.txt"),
    ],
)
def test_invalid_arguments(corpus: Any, options: dict[str, Any], error: type[KnockError], says: str) -> None:
    with pytest.raises(error, match=says):
        knock_training.train(corpus, **{**SHAPE, **options})


def test_name_of_a_file_is_not_taken_for_a_text(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(words.parent)
    with pytest.raises(TextError, match=r"a string is a text; pass Path\('words.txt'\)"):
        knock_training.train("words.txt", **TINY)


def test_import_is_cheap_and_the_function_needs_pytorch() -> None:
    code = "import sys, knock_training; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
    code = "import sys; sys.modules['torch'] = None\nimport knock_training; knock_training.train"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("knock.errors.KnockError: training needs PyTorch, which is not")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        knock_training.nonsense  # noqa: B018
