"""Print a shell completion script.

The examples show where each shell expects the script.
"""

from __future__ import annotations

import argparse

from knock.cli.ui.terminal import write
from knock.models import shipped

EXAMPLES = """examples:
  knock completion bash > ~/.local/share/bash-completion/completions/knock
  knock completion zsh > ~/.zfunc/_knock          (a folder in fpath)
  knock completion fish > ~/.config/fish/completions/knock.fish
"""

SHELLS = ("bash", "zsh", "fish")
_FILES = ("corpus", "file", "files", "html", "input", "metrics", "out", "output", "plot", "prompts", "vocab")
_FOLDERS = ("folder", "tensorboard")
_MODELS = ("model", "models", "vocab_from")

# Functions that complete a model: the names of shipped models, then files. shtab has no such completer.
_PREAMBLE = {
    "bash": """
_knock_models() {
  compgen -W "%(models)s" -- "$1"
  compgen -f -- "$1"
}
""",
    "zsh": """
_knock_models() {
  _alternative "models:model:(%(models)s)" "files:file:_files"
}
""",
    "fish": """
function __knock_models
  printf '%%s\\n' %(models)s
  __fish_complete_path (commandline -ct)
end
""",
}
_MODEL = {"bash": "_knock_models", "zsh": "_knock_models", "fish": "(__knock_models)"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def run(options: argparse.Namespace) -> int:
    """Print the completion script."""
    import shtab

    from knock.cli.main import COMMANDS, build_parser

    parser = build_parser(*COMMANDS)
    for action in _actions(parser):
        for names, complete in ((_FILES, shtab.FILE), (_FOLDERS, shtab.DIRECTORY), (_MODELS, _MODEL)):
            if action.dest in names and action.choices is None:
                action.complete = complete  # type: ignore[attr-defined]  # read by shtab
    preamble = _PREAMBLE[options.shell] % {"models": " ".join(shipped())}
    write(shtab.complete(parser, options.shell, preamble=preamble) + "\n")
    return 0


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return all options and arguments of a parser and its subcommands."""
    actions: list[argparse.Action] = []
    for action in parser._actions:
        actions.append(action)
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                actions += _actions(command)
    return actions
