"""What is imported when, what ships in the wheel, and whether the documentation is true."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import knock
from knock.config import ModelConfig
from knock.files.checkpoint import read_checkpoint
from knock.models import DEFAULT, shipped

ROOT = Path(__file__).parent.parent
READMES = [
    ROOT / "README.md",
    *(ROOT / folder / "README.md" for folder in ("bench", "kernels", "knock", "tests", "training")),
]
PAGES = [*READMES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
HEAVY = {"filelock", "knock_training", "llvmlite", "matplotlib", "numba", "numpy", "prompt_toolkit", "pyarrow", "ray",
         "rich", "safetensors", "torch"}  # fmt: skip
GENERATES = {"llvmlite", "numpy", "safetensors"}


def loaded_by(code: str) -> set[str]:
    """The modules that are imported once the code has run."""
    script = f"import sys; {code}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stderr.split())


def command(*arguments: str) -> str:
    return f"from knock.cli.main import main; main({list(arguments)})"


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import knock", set()),
        (command("--help"), set()),
        (command("--version"), set()),
        (command("generate", "--help"), set()),
        (command("sample", "--help"), set()),
        (command("train", "--help"), set()),
        (command("repl", "--help"), set()),
        (command("score", "--help"), set()),
        (command("inspect", "--help"), set()),
        (command("page", "--help"), set()),
        (command("convert", "--help"), set()),
        (command("demo", "--help"), set()),
        (command("completion", "--help"), set()),
        (command("completion", "bash"), set()),
        (command("warmup", "--check"), {"llvmlite", "numpy"}),
        (command("generate", "A", "--length", "5"), GENERATES),
        (command("generate", "A", "--length", "5", "--backend", "numpy"), GENERATES - {"llvmlite"}),
        (command("sample", "A", "--length", "5"), GENERATES),
        (command("generate", "A", "--length", "5", "--pattern", "[a-z]+"), GENERATES),
        (command("top", "A", "--max-length", "2"), GENERATES),
        (command("info"), {"numpy", "safetensors"}),
        (command("models"), {"numpy", "safetensors"}),
        (command("score", str(ROOT / "LICENSE"), "--unknown", "skip"), GENERATES),
        (command("inspect", "--text", "A"), GENERATES | {"rich"}),
        (command("demo", "--length", "5"), GENERATES | {"rich"}),
        ("import knock; knock.load('shakespeare-hybrid').generate('A')", GENERATES),
    ],
)
def test_nothing_heavy_is_imported(code: str, heavy: set[str]) -> None:
    assert {name.split(".")[0] for name in loaded_by(code)} & HEAVY == heavy


def test_only_the_command_that_runs_is_imported() -> None:
    modules = loaded_by(command("generate", "A", "--length", "5"))
    assert "knock.cli.generate" in modules
    others = {
        "knock.cli.train",
        "knock.cli.info",
        "knock.engine.numpy_backend",
        "knock.engine.compiled_batch",
    }
    assert not modules & {*others, "knock_kernels.cache.compiling", "concurrent.futures", "logging", "subprocess"}


@pytest.mark.parametrize(
    "code",
    [
        command("generate", "A", "--length", "5"),
        command("generate", "A", "--length", "5", "--stop", "x"),
        command("sample", "A", "--length", "5"),
        "import knock; knock.load('shakespeare-nano').generate('A')",
        "import knock; knock.load('shakespeare-nano').generate_batch(['A'])",
    ],
)
def test_texts_without_constraints_load_nothing_of_constraints_filters_and_tables(code: str) -> None:
    others = {
        "knock.engine.automaton",
        "knock.files.tables",
        "knock.generation.constraints",
        "knock.generation.filters",
        "knock.generation.known_texts",
        "knock.generation.rejection",
        "knock.generation.search",
        "knock.jobs.row_filter",
        "knock.jobs.table_rows",
    }
    assert not loaded_by(code) & others


def test_public_names_are_there() -> None:
    for name in knock.__all__:
        assert getattr(knock, name) is not None
        assert name in dir(knock)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        knock.nonsense  # noqa: B018


def test_completion_offers_public_names_and_modules_alone() -> None:
    import knock.errors

    assert {"errors", *knock.__all__} <= set(dir(knock))
    others = set(dir(knock)) - set(knock.__all__)
    assert others == {name for name in others if f"knock.{name}" in sys.modules}
    training = pytest.importorskip("knock_training")
    assert dir(training) == ["Interrupted", "train"]


def test_shipped_models_match_their_cards_and_the_script_that_made_them() -> None:
    pytest.importorskip("torch")
    from training.cards import card
    from training.shipped import MODELS

    assert set(shipped()) == set(MODELS)
    assert DEFAULT in MODELS
    for name, path in shipped().items():
        checkpoint = read_checkpoint(path)
        assert path.with_suffix(".md").read_text(encoding="utf-8") == card(name, path, MODELS[name])
        assert checkpoint.training["ended"] == "done"
        of_items = MODELS[name].data.items is not None
        assert checkpoint.vocab is not None
        assert checkpoint.vocab.has_boundary == of_items
        assert set(checkpoint.training["evaluation"]) == ({"items"} if of_items else {"block_256", "stream"})
        shape = checkpoint.weights.config.to_dict()
        made = ModelConfig(vocab_size=checkpoint.weights.config.vocab_size, **MODELS[name].shape).to_dict()
        assert shape == made
        recipe = checkpoint.training["recipe"]
        assert {field: recipe[field] for field in MODELS[name].recipe} == MODELS[name].recipe


def test_shipped_models_are_small() -> None:
    """They decide the size of the wheel."""
    assert sum(path.stat().st_size for path in shipped().values()) < 5_000_000


def test_trials_page_has_what_was_measured() -> None:
    pytest.importorskip("torch")
    from training.trials import GROUPS, RESULTS, TRIALS, Results, table

    page, results = TRIALS.read_text(encoding="utf-8"), Results(RESULTS)
    for group in GROUPS:
        measured = table(group, results)
        has_two_arms = measured.count("\n") > 2
        if has_two_arms or f"<!-- {group} -->" in page:
            assert f"<!-- {group} -->\n{measured}\n<!-- end" in page, "run python -m training.trials write"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", READMES, ids=name_of)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text_of(page), re.DOTALL)
    if page == READMES[0]:
        assert blocks
    shutil.copytree(ROOT / "training" / "data", tmp_path / "training" / "data")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block, namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_the_documentation_links_to_exists(page: Path) -> None:
    """Links and pictures from the page's folder; other paths from there or from the top of the project."""
    text = text_of(page)
    links = [link for link in re.findall(r'\]\(([^)]+)\)|src="([^"]+)"', text) if not link[0].startswith("http")]
    paths = {"".join(link).partition("#")[0] for link in links} - {""}
    assert [path for path in sorted(paths) if not (page.parent / path).exists()] == []
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0].isalpha())
    named = re.findall(rf"(?<![\w/.~-])((?:{folders}|\.ci)/[\w./-]*\w)", text)
    assert [path for path in named if not any((base / path).exists() for base in (ROOT, page.parent))] == []


@pytest.mark.parametrize("page", READMES, ids=name_of)
def test_commands_of_the_documentation_use_files_that_exist(page: Path) -> None:
    """Texts that a command reads, from the top of the project; not those that it writes."""
    for block in re.findall(r"```sh\n(.*?)```", text_of(page), re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            read = [word for before, word in zip(["", *words], words, strict=False) if before not in ("--out", ">")]
            texts = [word for word in read if word.endswith((".txt", ".jsonl"))]
            assert [text for text in texts if not (ROOT / text).exists()] == [], line


def test_pictures_show_no_errors() -> None:
    for picture in (ROOT / ".github").glob("*.svg"):
        shown = html.unescape(re.sub("<[^>]*>", "", text_of(picture)))
        assert not re.search(r"Traceback|Error|/(?:home|root|work|tmp)/", shown), picture


@pytest.mark.parametrize("page", READMES, ids=name_of)
def test_pictures_have_descriptions(page: Path) -> None:
    """They are all that a page of a package index shows of a picture in the repository."""
    for picture in re.findall(r"<img [^>]*>", text_of(page)):
        described = re.search(r'alt="([^"]*)"', picture)
        assert described is not None, picture
        assert len(described[1].split()) > 5, picture
    assert "![" not in text_of(page)  # the form without a width


def folders_with_readmes() -> list[Path]:
    homes = (ROOT / "knock", ROOT / "kernels" / "knock_kernels", ROOT / "training" / "knock_training")
    return [path.parent for home in homes for path in sorted(home.rglob("README.md"))]


@pytest.mark.parametrize("folder", folders_with_readmes(), ids=name_of)
def test_readme_of_a_folder_names_its_modules_and_folders(folder: Path) -> None:
    """Those of a folder without a README of its own, too."""
    text = text_of(folder / "README.md")
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py", "__main__.py"}
    packages = [path.parent for path in folder.glob("*/__init__.py")]
    inner = {path.name for sub in packages if not (sub / "README.md").exists() for path in sub.glob("*.py")}
    folders = {f"{path.name}/" for path in packages}
    assert [name for name in sorted(modules | inner - {"__init__.py"} | folders) if name not in text] == []


def test_readme_is_short() -> None:
    assert text_of(READMES[0]).count("\n") <= 200


def test_readme_shows_the_shipped_models_and_what_they_write() -> None:
    from bench import report

    pages = report.read_pages()
    filled = report.fill(report.fill(pages, "models", report.model_table()), "sample", report.sample())
    assert filled == pages, "run python -m bench.report"


def test_package_list_is_complete() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    homes = {"knock": ROOT, "knock_kernels": ROOT / "kernels", "knock_training": ROOT / "training"}
    found = {
        ".".join(file.parent.relative_to(home).parts)
        for name, home in homes.items()
        for file in (home / name).rglob("__init__.py")
    }
    assert set(settings["packages"]) == found


def test_package_data_is_complete() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    homes = {"knock": ROOT, "knock_kernels": ROOT / "kernels", "knock_training": ROOT / "training"}
    for package in settings["packages"]:
        folder = homes[package.split(".")[0]] / Path(*package.split("."))
        patterns = settings["package-data"].get(package, [])
        others = {path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc")}
        packed = {path for pattern in patterns for path in folder.glob(pattern)}
        assert {path.name for path in others - packed} <= {"README.md"}, package


def test_source_distribution_has_every_file() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if not (ROOT / ".git").exists() or listed.returncode:
        pytest.skip("not a repository")
    manifest = [line.split() for line in text_of(ROOT / "MANIFEST.in").splitlines()]
    folders = {name for words in manifest if words[0] == "graft" for name in words[1:]}
    files = {name for words in manifest if words[0] == "include" for name in words[1:]}
    always = {".gitignore", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg"}
    missing = [name for name in listed.stdout.splitlines() if name.split("/")[0] not in files | folders | always]
    assert missing == []


def test_texts_to_try_the_commands_with() -> None:
    data = ROOT / "training" / "data"
    assert 100_000 < (data / "shakespeare.txt").stat().st_size < 300_000
    lm = knock.load(DEFAULT, backend="numpy")
    assert lm.score(text_of(data / "sonnet.txt")).bits_per_char < 3
    prompts = str(data / "prompts.jsonl")
    script = [sys.executable, "-m", "knock", "sample", "--prompts", prompts, "--length", "5"]
    rows = subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(rows) == text_of(data / "prompts.jsonl").count("\n") > 3
    assert not any(json.loads(row).get("error") for row in rows)
