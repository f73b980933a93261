"""Write a web page with a model inside: let it write, look into it, take a tour.

The page is one HTML file that works offline, in any browser of the last years. The model runs in it and writes the same
text as knock generate with the same settings and the default precision. A reader can see what it expects next, before
and after each filter of sampling, where its heads look, and what they learned.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from knock.choices import UNKNOWN
from knock.cli.ui.options import add_force_argument, path_ending_in
from knock.cli.ui.output_file import check_output, write_output
from knock.cli.ui.terminal import printable, read_input, say
from knock.models import DEFAULT, locate, shipped

EXAMPLES = """examples:
  knock page
  knock page --open
  knock page my.safetensors --out lesson.html
  knock page shakespeare-nano --text sonnet.txt --force
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("model", nargs="?", default=DEFAULT, metavar="MODEL",
                        help=f"a shipped model, a file or a folder (default: {DEFAULT})")  # fmt: skip
    parser.add_argument("--out", type=path_ending_in(".html", ".htm"), metavar="FILE",
                        help="the page to write (default: the name of the model with .html)")  # fmt: skip
    parser.add_argument("--text", metavar="FILE",
                        help="file with a text to show first, in UTF-8; - is standard input (default: the model writes "
                             "one)")  # fmt: skip
    parser.add_argument("--unknown", choices=UNKNOWN, default="error",
                        help="how to handle characters of the text that the model does not know (default: "
                             "error)")  # fmt: skip
    parser.add_argument("--open", action="store_true", help="show the page in a browser")
    add_force_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Write the page, and show it if that is asked for."""
    from knock.language_model import load

    path = locate(options.model)
    out = Path(f"{path.stem}.html" if options.out is None else options.out)
    check_output(out, force=options.force, inputs=[str(path), options.text or ""])
    lm = load(path, backend="numpy")

    from knock.page.document import Opening, beginning, document

    opening = Opening()
    if options.text is not None:
        given, source = _text(options.text)
        text, described = beginning(given, source)
        text = lm.vocab.decode(lm.vocab.encode(text, unknown=options.unknown))
        opening = Opening(text=text, source=described)
    if "schema" in lm.training:
        say("knock: the page writes without the schema of the model's table, so its rows may not match it")
    write_output(out, document(lm, printable(path.stem), opening, file=file_name(path)))
    if options.open:
        _show(out)
    return 0


def file_name(path: Path) -> str:
    """Return how a command names a model: a shipped one by name, others by file, without the folder."""
    return path.stem if path in shipped().values() else path.name


def _text(file: str) -> tuple[str, str]:
    """Return the text of a file, and its name.

    Raises:
        TextError: if it cannot be read or is empty.
    """
    from knock.errors import TextError
    from knock.files.text import read_text

    text, source = (read_input(), "standard input") if file == "-" else (read_text(file), printable(Path(file).name))
    if not text:
        raise TextError(f"{source} is empty; leave out --text to let the model write one")
    return text, source


def _show(path: Path) -> None:
    """Show a page in the browser of the system."""
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        say(f"knock: no browser was found; open {printable(str(path))} yourself")
