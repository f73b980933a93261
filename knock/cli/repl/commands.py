"""The commands of the REPL: their arguments, effects and output."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from knock.choices import PRESET_NAMES
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.cli.ui.terminal import columns, printable, say
from knock.errors import KnockError
from knock.models import shipped
from knock.sampling import Sampling
from knock.validation import shown

_HELP = (
    "Each line is a prompt that the model continues. An empty line repeats the last prompt; before the first prompt, "
    "it starts a new line of text. Type two slashes for a prompt that starts with one. Ctrl-C stops a text or clears "
    "the line; Ctrl-D ends the session."
)
_NARROW = 50  # columns; on narrower terminals, /help does not align the summaries


class Quit(Exception):
    """Raised to end the session."""


class CommandError(KnockError):
    """Unknown command, or invalid arguments."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of the REPL.

    Attributes:
        summary: What the command does, for /help.
        run: Runs the command. It is called with one word per argument; the last word may contain spaces.
        arguments: Names of the arguments.
        settings: Names of the settings that the command changes.
        now: Returns the current value, in the form the command accepts; None if the command has no value.
        values: Returns possible arguments, for completion.
        is_path: Whether the argument may be a file name.
    """

    summary: str
    run: Callable[[Session, list[str]], None]
    arguments: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    now: Callable[[Session], str] | None = None
    values: Callable[[Session], Iterable[str]] = lambda _: ()
    is_path: bool = False

    def unused(self, settings: Settings) -> str | None:
        """Return why the settings of this command have no effect, or None if they have one."""
        return next(filter(None, map(settings.unused, self.settings)), None)


def handle(session: Session, line: str) -> None:
    """Handle a line: run a command, or generate a text from a prompt.

    Raises:
        KnockError: if the line cannot be handled.
        Quit: if the line ends the session.
        KeyboardInterrupt: after Ctrl-C.
    """
    if line.startswith("/") and not line.startswith("//"):
        _run_command(session, line)
    elif line:
        session.write(line.removeprefix("/"))
    else:
        session.write(session.last.prompt if session.last else "")


def _run_command(session: Session, line: str) -> None:
    name, *rest = line.split(maxsplit=1)
    if name not in COMMANDS:
        raise CommandError(f"unknown command {shown(name)}; /help lists the commands, and // starts a prompt with /")
    command, before = COMMANDS[name], session.settings
    given = "".join(rest).rstrip()
    words = given.split(maxsplit=max(0, len(command.arguments) - 1))
    try:
        if len(words) != len(command.arguments):
            expected = " and ".join(command.arguments) or "no argument"
            raise CommandError(f"expected {expected}, got {shown(given) if given else 'nothing'}")
        command.run(session, words)
    except KnockError as error:
        now = f"; now {printable(command.now(session))}" if command.now else ""
        raise CommandError(f"{name}: {error}; usage: {' '.join((name, *command.arguments))}{now}") from error
    if command.now:
        say(f"{name[1:]} {printable(command.now(session))}")
    if session.settings != before:
        _report_unused(session, command, before)


def _report_unused(session: Session, changed: Command, before: Settings) -> None:
    """Report if the changed setting has no effect, and which other settings just lost theirs."""
    for name, command in COMMANDS.items():
        reason = command.unused(session.settings)
        if reason and (command is changed or (reason != command.unused(before) and _is_set(command, session.settings))):
            say(f"{name[1:]} has no effect now: {reason}")


def _is_set(command: Command, settings: Settings) -> bool:
    return any(getattr(settings, name) != getattr(Sampling(), name) for name in command.settings)


def _setting(summary: str, arguments: str, *names: str, none: str = "", values: Iterable[str] = ()) -> Command:
    """Return a command that changes one setting per argument.

    Args:
        summary: What the command does.
        arguments: Names of the arguments, separated by spaces.
        names: Names of the settings, in the order of the arguments.
        none: The word that stands for None.
        values: Possible arguments, for completion; the current value is always offered.
    """

    def run(session: Session, words: list[str]) -> None:
        given = {name: None if word == none else _number(word) for name, word in zip(names, words, strict=True)}
        session.settings = replace(session.settings, **given)  # type: ignore[arg-type]  # Settings validates them

    def now(session: Session) -> str:
        return " ".join(_word(getattr(session.settings, name), none) for name in names)

    return Command(
        summary=summary,
        run=run,
        arguments=tuple(arguments.split()),
        settings=names,
        now=now,
        values=lambda session: dict.fromkeys((*values, now(session))),
    )


def _number(word: str) -> float | str:
    """Convert a word to a number if possible; `Settings` rejects anything else."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return word


def _word(value: object, none: str = "") -> str:
    if value is None or isinstance(value, bool):
        return {None: none, True: "on", False: "off"}[value]
    return str(value).removesuffix(".0")


def _switch_heat(session: Session, _: list[str]) -> None:
    from knock.cli.repl.heat_page import explain  # imports rich

    session.settings = replace(session.settings, heat=not session.settings.heat)
    if session.settings.heat:
        explain(session.is_terminal)


def _switch_stats(session: Session, _: list[str]) -> None:
    session.settings = replace(session.settings, stats=not session.settings.stats)


def _load(session: Session, words: list[str]) -> None:
    session.load(words[0])


def _again(session: Session, _: list[str]) -> None:
    if session.last is None:
        raise CommandError("nothing has been generated yet; enter a prompt first")
    session.write(session.last.prompt, (session.last.seed + 1) % 2**64)


def _save(session: Session, words: list[str]) -> None:
    first, _, rest = words[0].partition(" ")
    force = first == "--force" and bool(rest)
    say(f"saved to {printable(str(session.save(rest.strip() if force else words[0], force=force)))}")


def _show_config(session: Session, _: list[str]) -> None:
    for name, command in COMMANDS.items():
        if command.now:
            reason = command.unused(session.settings)
            say(f"{name:<10} {printable(command.now(session))}" + (f" (no effect now: {reason})" if reason else ""))
    model = session.model.model
    config = model.config
    sizes = " ".join(f"{name}={getattr(config, name)}" for name in ("T", "n_emb", "nodes", "n_blocks", "n_heads"))
    say(f"heads      {config.head_type}, {config.position} positions")
    say(f"shape      {sizes}")
    say(f"parameters {model.weights.n_parameters:,}")
    say(f"vocabulary {printable(session.model.vocab.describe())}")


def _show_help(_: Session, __: list[str]) -> None:
    width = max(20, columns())
    say(textwrap.fill(_HELP, width))
    for name, command in COMMANDS.items():
        usage = f"  {' '.join((name, *command.arguments)):<18} "
        indent = " " * (4 if width < _NARROW else len(usage))
        say(textwrap.fill(command.summary, width, initial_indent=usage, subsequent_indent=indent))


def _quit(_: Session, __: list[str]) -> None:
    raise Quit


COMMANDS = {
    "/model": Command(summary="load another model: a shipped one, a file or a folder", run=_load, arguments=("MODEL",),
                      now=lambda session: session.name, values=lambda _: shipped(), is_path=True),
    "/len": _setting("characters to generate", "N", "length"),
    "/temp": _setting("temperature, which divides the logits; 0 is greedy", "X", "temperature"),
    "/sampling": _setting("sampling method: basic, top_k, top_p, or entropy for the entropy rule", "NAME", "sampling",
                          values=PRESET_NAMES),
    "/topk": _setting("keep the K most likely characters; 0 turns it off", "K", "top_k"),
    "/topp": _setting("keep the most likely characters with total probability P; 1 turns it off", "P", "top_p"),
    "/minp": _setting("keep characters at least P times as likely as the most likely; 0 turns it off", "P", "min_p"),
    "/entropy": _setting("target of the entropy rule, in bits", "T", "target_entropy"),
    "/bounds": _setting("lowest and highest temperature of the entropy rule", "MIN MAX", "min_temp", "max_temp"),
    "/mirostat": _setting("target surprise of mirostat, in bits", "T|off", "mirostat", none="off",
                          values=("off",)),
    "/seed": _setting("seed of every text", "N|random", "seed", none="random", values=("random",)),
    "/again": Command(summary="repeat the last prompt with the next seed", run=_again),
    "/save": Command(summary="save the last text to a file; --force FILE overwrites it", run=_save,
                     arguments=("FILE",), is_path=True),
    "/heat": Command(summary="turn the display of each character's surprise on or off", run=_switch_heat,
                     now=lambda session: _word(session.settings.heat)),
    "/stats": Command(summary="turn statistics after each text on or off", run=_switch_stats,
                      now=lambda session: _word(session.settings.stats)),
    "/config": Command(summary="show the model and all settings", run=_show_config),
    "/help": Command(summary="show this help", run=_show_help),
    "/quit": Command(summary="end the session", run=_quit),
}  # fmt: skip
