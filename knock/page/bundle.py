"""Assemble one HTML file: a shell, style sheets, JavaScript modules as one inline module, and JSON data.

The modules are plain ES modules, which also run from their files. A module imports by lines such as
`import { a, b } from "./x.js";` and exports by `export` before a declaration at the beginning of a line. In the bundle
these lines and words are dropped and the modules stand in one scope, each after those that it imports. Names at the
top level must therefore differ from module to module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_IMPORT = re.compile(r'^import (?:\{ ([\w$, ]+) \} from )?"(\.{1,2}/[\w./-]+\.js)";$', re.MULTILINE)
_REEXPORT = re.compile(r'^export \{ ([\w$, ]+) \} from "(\.{1,2}/[\w./-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let)\b)", re.MULTILINE)
_ANY = re.compile(r"^\s*(?:import\b(?!\s*[.(])|export\b).*", re.MULTILINE)
_NAME = re.compile(r"^(?:export )?(?:(?:async )?function\*?|class|const|let|var) +([\w$]+)", re.MULTILINE)


def modules(entries: Iterable[Path]) -> list[Path]:
    """Return the modules that entries need, the entries included, each after those that it imports.

    Raises:
        ValueError: if modules import each other in a circle, or one imports what another does not export.
    """
    ordered: list[Path] = []
    open_: list[Path] = []

    def add(path: Path) -> None:
        if path in ordered:
            return
        if path in open_:
            raise ValueError(f"modules import each other: {' -> '.join(each.name for each in [*open_, path])}")
        open_.append(path)
        text = path.read_text(encoding="utf-8")
        for names, target in [*_IMPORT.findall(text), *_REEXPORT.findall(text)]:
            needed = (path.parent / target).resolve()
            add(needed)
            lacking = {name.strip() for name in names.split(",")} - exported(needed) - {""}
            if lacking:
                raise ValueError(
                    f"{path.name} imports {', '.join(sorted(lacking))}, which {needed.name} does not export"
                )
        ordered.append(open_.pop())

    for entry in entries:
        add(entry.resolve())
    return ordered


def exported(path: Path) -> set[str]:
    """Return the names that a module exports."""
    text = path.read_text(encoding="utf-8")
    passed_on = {name.strip() for names, _ in _REEXPORT.findall(text) for name in names.split(",")}
    return passed_on | {found[1] for found in _NAME.finditer(text) if found[0].startswith("export ")}


def script(entries: Iterable[Path]) -> str:
    """Return modules and what they import as the text of one module.

    Raises:
        ValueError: if two modules declare one name, or a module has an import or export of another form.
    """
    declared: dict[str, str] = {}
    parts = []
    for path in modules(entries):
        text = path.read_text(encoding="utf-8")
        for name in _NAME.findall(text):
            if name in declared:
                raise ValueError(f"{declared[name]} and {path.name} both declare {name}; rename one of them")
            declared[name] = path.name
        text = _EXPORT.sub("", _REEXPORT.sub("", _IMPORT.sub("", text)))
        if strange := _ANY.search(text):
            raise ValueError(f"{path.name} has a line that cannot be bundled: {strange[0].strip()}")
        if "</script" in text.lower() or "<!--" in text:
            raise ValueError(f"{path.name} contains </script or <!--, which would end the page's script; escape it")
        parts.append(f"// {path.name}\n{text.strip()}\n")
    return "\n".join(parts)


def as_json(data: Any) -> str:
    """Return data as ASCII JSON that is safe inside a script element and in JavaScript.

    <, > and & are escaped, so no text in it can end the element or begin a comment.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def bundle(
    shell: str, entries: Iterable[Path], *, styles: Iterable[Path] = (), data: Mapping[str, Any] | None = None
) -> bytes:
    """Return one HTML file in UTF-8.

    Args:
        shell: HTML with the lines `<!-- styles -->`, `<!-- data -->` and `<!-- script -->`, each of which is replaced.
        entries: the modules to run.
        styles: style sheets.
        data: JSON-serialisable data by the id of its script element; a module reads it with
            `JSON.parse(document.getElementById(id).textContent)`.

    Raises:
        ValueError: if the shell lacks a line, or a file cannot be bundled.
    """
    css = "\n".join(path.read_text(encoding="utf-8").strip() for path in styles)
    if "</style" in css.lower():
        raise ValueError("a style sheet contains </style, which would end the page's style; remove it")
    elements = [
        f'<script type="application/json" id="{name}">{as_json(value)}</script>' for name, value in (data or {}).items()
    ]
    parts = {
        "styles": f"<style>\n{css}\n</style>",
        "data": "\n".join(elements),
        "script": f'<script type="module">\n{script(entries)}</script>',
    }
    lacking = [name for name in parts if shell.count(f"<!-- {name} -->") != 1]
    if lacking:
        raise ValueError(f"the shell must have one line <!-- {lacking[0]} -->")
    pieces = re.split(r"<!-- (styles|data|script) -->", shell)
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces)).encode()
