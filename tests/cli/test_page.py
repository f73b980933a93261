"""Tests of `knock page`: what it writes, and its errors. `tests/page` looks at the page in a browser."""

from __future__ import annotations

import io
import json
import webbrowser
from pathlib import Path
from typing import Any

import pytest

from knock import LanguageModel, Vocab, load
from knock.errors import OutputError, VocabError
from knock.files.checkpoint import read_checkpoint, write_checkpoint
from knock.models import shipped
from tests.cases import EVERY, SMALL, random_weights
from tests.cli.inspect.command import ODD, saved, small
from tests.cli.test_main import run
from tests.page.browser import Scripts


def data(page: Path | str) -> dict[str, Any]:
    """What the page says, besides the model."""
    scripts = Scripts(page.read_text(encoding="utf-8") if isinstance(page, Path) else page)
    assert scripts.fetched == []
    content: dict[str, Any] = json.loads(scripts.scripts[1])
    return content


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_page_is_named_after_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "page", "shakespeare-nano")
    page = Path("shakespeare-nano.html")
    assert (code, out, err) == (0, f"shakespeare-nano.html: {page.stat().st_size:,} bytes\n", "")
    assert page.stat().st_size < 450_000
    said = data(page)
    assert said["title"] == "shakespeare-nano · knock"
    assert said["model"] == said["headline"] == "shakespeare-nano"
    weights = read_checkpoint(shipped()["shakespeare-nano"]).weights
    assert f"{weights.n_parameters:,} numbers in {weights.config.n_blocks} blocks of " in said["about"]
    assert f"it sees the last {weights.config.receptive_field} characters" in said["about"]
    assert said["text"] == said["source"] == ""
    content = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in content
    assert content.endswith("</html>\n")


def test_models_are_named_as_commands_name_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "page", saved(tmp_path, "hybrid-relative"), "--out", "p.html")[0] == 0
    assert data(Path("p.html"))["model"] == "hybrid-relative.safetensors"  # without the folder, which is private
    assert str(tmp_path) not in Path("p.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", [*EVERY, "items"])
def test_every_kind_of_model_has_a_page(capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str) -> None:
    if kind == "items":
        path = str(tmp_path / "items.npz")
        write_checkpoint(path, random_weights(SMALL["hybrid-relative"], 0), Vocab("abcdefghij", boundary=True))
    else:
        path = saved(tmp_path, kind)
    assert run(capsys, "page", path, "--out", "p.html")[0] == 0
    terms = dict(data(Path("p.html"))["terms"])
    config = SMALL["hybrid-relative"] if kind == "items" else EVERY[kind]
    assert ("gate" in terms, "reweight" in terms, "content" in terms) == (
        config.has_hybrid, config.has_reweight, config.has_content,
    )  # fmt: skip
    assert ("∎" in terms) == (kind == "items")


def test_the_text_of_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = saved(tmp_path, "hybrid-relative")
    Path("long.txt").write_text("aa \n<" * 1000, encoding="utf-8")
    assert run(capsys, "page", model, "--text", "long.txt", "--out", "p.html")[0] == 0
    said = data(Path("p.html"))
    assert said["text"] == ("aa \n<" * 1000)[:4096]
    assert said["source"] == "The text is the first 4,096 of 5,000 characters of long.txt."
    Path("short.txt").write_text("azya", encoding="utf-8")
    code, _, err = run(capsys, "page", model, "--text", "short.txt", "--out", "p.html", "--force")
    assert code == 1
    assert "unknown character 'z'" in err
    assert err.rstrip().endswith("--unknown skip or --unknown replace")
    assert run(capsys, "page", model, "--text", "short.txt", "--out", "p.html", "--force", "--unknown", "skip")[0] == 0
    assert data(Path("p.html"))["text"] == "aa"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a<a")))
    assert run(capsys, "page", model, "--text", "-", "--out", "p.html", "--force")[0] == 0
    said = data(Path("p.html"))
    assert (said["text"], said["source"]) == ("a<a", "The text is standard input, 3 characters.")


def test_a_page_is_overwritten_with_force_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, page = saved(tmp_path, "hybrid-relative"), Path("p.html")
    page.write_text("mine", encoding="utf-8")
    code, out, err = run(capsys, "page", model, "--out", "p.html")
    assert (code, out) == (1, "")
    assert err == "knock: error: 'p.html' already exists; pass --force to overwrite it, or choose another name\n"
    assert page.read_text(encoding="utf-8") == "mine"
    assert run(capsys, "page", model, "--out", "p.html", "--force")[0] == 0
    assert data(page)["headline"] == "hybrid-relative"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nano-shakespeare"], 1, "no model named 'nano-shakespeare'"),
        (["nano"], 1, "did you mean shakespeare-nano?"),
        (["--out", "page"], 2, "must end in .html or .htm"),
        (["--out", "none/p.html"], 1, "the folder 'none' does not exist; create it first"),
        (["--out", "folder.html"], 1, "'folder.html' is a folder; pass the path of a file"),
        (["--text", "nowhere.txt"], 1, "cannot read 'nowhere.txt': no such file"),
        (["--text", "empty.txt"], 1, "empty.txt is empty; leave out --text"),
        (["--text", "text.html", "--out", "text.html", "--force"], 1, "'text.html' is also an input of this command"),
        (["tokens.npz"], 1, "has no vocabulary, so it cannot be used for text"),
    ],
)
def test_errors(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str) -> None:
    Path("folder.html").mkdir()
    Path("empty.txt").touch()
    Path("text.html").write_text("To be", encoding="utf-8")
    write_checkpoint("tokens.npz", random_weights(SMALL["hybrid-relative"], 0), None)
    before = sorted(Path().iterdir())
    exit_code, out, err = run(capsys, "page", *arguments)
    assert (exit_code, out, err.count("\n")) == (code, "", 1)
    assert says in err
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("has_browser", [True, False])
def test_the_page_is_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_browser: bool
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: shown.append(url) or has_browser)
    code, _, err = run(capsys, "page", saved(tmp_path, "hybrid-relative"), "--out", "p q.html", "--open")
    assert (code, shown) == (0, [(tmp_path / "p q.html").as_uri()])
    assert err == ("" if has_browser else "knock: no browser was found; open p q.html yourself\n")


# LanguageModel.to_html


def test_a_model_writes_its_page(tmp_path: Path) -> None:
    lm, path = small("hybrid-relative"), tmp_path / "p.html"
    page = lm.to_html(path, text="a<a", name="mine")
    assert path.read_text(encoding="utf-8") == page
    said = data(page)
    assert (said["text"], said["headline"], said["model"]) == ("a<a", "mine", "mine.safetensors")
    assert said["source"] == "The text is a given text, 3 characters."
    assert data(lm.to_html())["text"] == ""
    assert data(load("shakespeare-nano").to_html(name="shakespeare-nano"))["model"] == "shakespeare-nano"
    assert "shakespeare-nano" in shipped()


def test_errors_of_a_model_that_writes_its_page(tmp_path: Path) -> None:
    lm: LanguageModel = small("hybrid-relative")
    with pytest.raises(VocabError, match="unknown character 'z'"):
        lm.to_html(text=ODD + "z")
    with pytest.raises(OutputError, match=r"cannot write .*none.*p.html.*choose another path"):
        lm.to_html(tmp_path / "none" / "p.html")


def test_the_page_of_a_table_model_says_that_it_has_no_schema(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    vocab = Vocab("0123456789", boundary=True)
    record = {"schema": {"format": "csv", "columns": [{"name": "a", "kind": "integer", "min": 1, "max": 5}]}}
    write_checkpoint(tmp_path / "rows.safetensors", random_weights(SMALL["hybrid-relative"], 0), vocab, record)
    code, out, err = run(capsys, "page", str(tmp_path / "rows.safetensors"))
    assert (code, err.count("\n")) == (0, 1)
    assert "the page writes without the schema of the model's table" in err
    assert out.startswith("rows.html: ")
