"""One HTML file from modules, styles and data, whatever text is in them; models as JSON."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from knock import LanguageModel, ReweightGPT, Vocab, load
from knock.engine.quantizing import quantize
from knock.page import bundle
from knock.page.weights import pack_codes, page_model
from tests.page.chromium import SHELL, dump, needs_chromium, results

ENGINE = bundle.FOLDER / "engine"
HOSTILE = [
    "</script><script>document.title='taken'</script>",
    "<!--", "-->", "<!-- script -->", "]]>", "&lt;", "\u2028\u2029", "\u0301", "\u20dd",
    "😀", "\x00\x07\x7f", "\\u003c", "'\"`${1}", "\ufeff", "\u202e",
]  # fmt: skip


def write(folder: Path, **files: str) -> list[Path]:
    for name, text in files.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")
    return [folder / f"{name}.js" for name in files]


def test_modules_stand_after_what_they_import(tmp_path: Path) -> None:
    top, *_ = write(
        tmp_path,
        top='import { b } from "./middle.js";\nimport { a } from "./base.js";\nimport "./base.js";\nlog(a, b);\n',
        middle='import { a } from "./base.js";\n\nexport const b = a + 1;\nexport { a } from "./base.js";\n',
        base='// The "import { x }" of a comment\nexport const a = 1;\nexport async function f() { import.meta; }\n',
    )
    assert [path.name for path in bundle.modules([top])] == ["base.js", "middle.js", "top.js"]
    assert bundle.script([top]) == (
        '// base.js\n// The "import { x }" of a comment\nconst a = 1;\nasync function f() { import.meta; }\n\n'
        "// middle.js\nconst b = a + 1;\n\n// top.js\nlog(a, b);\n"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": 'import { b } from "./b.js";\n', "b": 'import { a } from "./a.js";\n'}, "import each other"),
        ({"a": 'import { x } from "./b.js";\n', "b": "const x = 1;\n"}, "imports x, which b.js does not export"),
        (
            {"a": 'import { x } from "./b.js";\nconst y = 1;\n', "b": "export const x = 1;\nfunction y() {}\n"},
            "both declare y",
        ),
        ({"a": 'import x from "./b.js";\n', "b": "export const x = 1;\n"}, "cannot be bundled"),
        ({"a": 'import { x as y } from "./b.js";\n', "b": "export const x = 1;\n"}, "does not export"),
        ({"a": "export default 1;\n"}, "cannot be bundled"),
        ({"a": 'const end = "</script>";\n'}, "would end the page's script"),
        ({"a": 'const begin = "<!--";\n'}, "would end the page's script"),
    ],
)
def test_modules_that_cannot_be_bundled(files: dict[str, str], message: str, tmp_path: Path) -> None:
    first, *_ = write(tmp_path, **files)
    with pytest.raises(ValueError, match=message):
        bundle.script([first])


def test_shells_and_styles_that_cannot_be_bundled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one line <!-- data -->"):
        bundle.bundle("<!-- styles --><!-- script -->", [])
    style = tmp_path / "a.css"
    style.write_text("a {} </style>")
    with pytest.raises(ValueError, match="</style"):
        bundle.bundle(SHELL, [], styles=[style])


def test_engine_names_are_unique_and_its_files_in_the_readme() -> None:
    """What `script` checks: every module, each name at the top level once."""
    files = sorted(ENGINE.glob("*.js"))
    assert set(bundle.modules([ENGINE / "index.js"])) == set(files)
    text = bundle.script(files)
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE)
    readme = (ENGINE / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in files if path.name not in readme] == []


def test_data_is_ascii_without_markup() -> None:
    text = bundle.as_json({"".join(HOSTILE): HOSTILE})
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"".join(HOSTILE): HOSTILE}
    with pytest.raises(ValueError, match="JSON"):
        bundle.as_json([float("nan")])


@needs_chromium
def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """In a name, in data, in a vocabulary."""
    characters = list(dict.fromkeys("".join(HOSTILE) + "\u0300\U0010ffff\ue000"))
    lm = LanguageModel(ReweightGPT(len(characters), T=2, n_emb=2, nodes=2, n_heads=1, n_blocks=1), Vocab(characters))
    entry, *_ = write(
        tmp_path, show='document.querySelector("pre").textContent = document.getElementById("data").textContent;\n'
    )
    data = {"data": {"hostile": HOSTILE, "model": page_model(lm, "".join(HOSTILE))}}
    page = bundle.bundle("<!doctype html><title>mine</title>" + SHELL, [entry], data=data)
    document = dump(page, tmp_path)
    assert "<title>mine</title>" in document
    assert document.count("<script") == 2
    shown = re.search(r"<pre>(.*?)</pre>", document, re.DOTALL)
    assert shown is not None
    assert json.loads(shown[1])["hostile"] == HOSTILE
    folder = tmp_path / "engine"
    folder.mkdir()
    jobs = [
        {"kind": "vocabulary", "model": 0},
        {"kind": "encode", "model": 0, "text": "".join(HOSTILE), "unknown": "error"},
    ]
    chars, tokens = results(jobs, folder, [lm])
    assert chars == characters
    assert tokens == lm.vocab.encode("".join(HOSTILE)).tolist()


@pytest.mark.parametrize(("name", "most"), [("shakespeare-nano", 450_000), ("shakespeare-small", 2_500_000)])
def test_models_are_small(name: str, most: int) -> None:
    """With the engine."""
    page = bundle.bundle(SHELL, [ENGINE / "index.js"], data={"model": page_model(load(name), name)})
    assert len(page) < most


def test_codes_are_packed_whole() -> None:
    layer = quantize(load("names").model.weights, "int16").blocks[0].w0
    for codes in (layer.codes, np.array([-2047, 2047, 0, -1, 1]), np.array([5])):
        assert unpacked(base64.b64decode(pack_codes(codes)), codes.size) == codes.ravel().tolist()


def unpacked(packed: bytes, count: int) -> list[int]:
    codes = []
    for i in range(0, len(packed), 3):
        word = int.from_bytes(packed[i : i + 3], "little")
        codes += [(word & 4095) - 2048, (word >> 12) - 2048]
    assert len(packed) == 3 * -(-count // 2)
    return codes[:count]
