"""The commands of the REPL: what each takes, what it does, and what it says."""

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
    "A line is a prompt, and the text goes on from it. An empty line is the last prompt again; before the first it is "
    "the start of a line. A prompt that begins with a slash is given with two. Ctrl-C stops a text, and clears a line; "
    "Ctrl-D ends the session."
)
_NARROW = 50  # columns, on which summaries have no column of their own


class Quit(Exception):
    """The end of the session."""


class CommandError(KnockError):
    """A command that there is not, or that cannot be done as it was given."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command.

    Attributes:
        summary: what it does.
        run: does it, with as many words as there are arguments; the last word may have spaces in it.
        arguments: their names.
        settings: those that it sets.
        now: what stands, as it would be given; None where nothing does.
        values: what can be given, for completion.
        is_path: whether it takes the name of a file.
    """

    summary: str
    run: Callable[[Session, list[str]], None]
    arguments: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    now: Callable[[Session], str] | None = None
    values: Callable[[Session], Iterable[str]] = lambda _: ()
    is_path: bool = False

    def unused(self, settings: Settings) -> str | None:
        """Why what it sets has no effect, if that is so."""
        return next(filter(None, map(settings.unused, self.settings)), None)


def handle(session: Session, line: str) -> None:
    """Do what a line says: a command, or a prompt.

    Raises:
        KnockError: if that cannot be done.
        Quit: if it is the end.
        KeyboardInterrupt: after Ctrl-C.
    """
    if line.startswith("/") and not line.startswith("//"):
        _obey(session, line)
    elif line:
        session.write(line.removeprefix("/"))
    else:
        session.write(session.last.prompt if session.last else "")


def _obey(session: Session, line: str) -> None:
    name, *rest = line.split(maxsplit=1)
    if name not in COMMANDS:
        raise CommandError(f"there is no {shown(name)}; /help lists the commands, and // begins a prompt with /")
    command, before = COMMANDS[name], session.settings
    given = "".join(rest).rstrip()
    words = given.split(maxsplit=max(0, len(command.arguments) - 1))
    try:
        if len(words) != len(command.arguments):
            wanted = " and ".join(command.arguments) or "nothing"
            raise CommandError(f"takes {wanted}, got {shown(given) if given else 'nothing'}")
        command.run(session, words)
    except KnockError as error:
        now = f"; now {printable(command.now(session))}" if command.now else ""
        raise CommandError(f"{name}: {error}; usage: {' '.join((name, *command.arguments))}{now}") from error
    if command.now:
        say(f"{name[1:]} {printable(command.now(session))}")
    if session.settings != before:
        _tell_unused(session, command, before)


def _tell_unused(session: Session, changed: Command, before: Settings) -> None:
    """Say of what was set that it has no effect, and of what had one, or was to have one, that it has none now."""
    for name, command in COMMANDS.items():
        reason = command.unused(session.settings)
        if reason and (command is changed or (reason != command.unused(before) and _is_on(command, session.settings))):
            say(f"{name[1:]} has no effect now: {reason}")


def _is_on(command: Command, settings: Settings) -> bool:
    return any(getattr(settings, name) != getattr(Sampling(), name) for name in command.settings)


def _setting(summary: str, arguments: str, *names: str, none: str = "", values: Iterable[str] = ()) -> Command:
    """A command that sets a setting for each of its arguments.

    Args:
        summary: what it does.
        arguments: their names.
        names: of the settings.
        none: the word for None.
        values: what can be given, beside what stands.
    """

    def run(session: Session, words: list[str]) -> None:
        given = {name: None if word == none else _number(word) for name, word in zip(names, words, strict=True)}
        session.settings = replace(session.settings, **given)  # type: ignore[arg-type]  # which checks them

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
    """A number, if the word is one; if not, whoever checks it tells what was expected."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return word


def _word(value: object, none: str = "") -> str:
    if value is None or isinstance(value, bool):
        return {None: none, True: "on", False: "off"}[value]
    return str(value).removesuffix(".0")


def _switch_heat(session: Session, _: list[str]) -> None:
    from knock.cli.repl.heat_page import explain  # which takes rich

    session.settings = replace(session.settings, heat=not session.settings.heat)
    if session.settings.heat:
        explain(session.is_terminal)


def _switch_stats(session: Session, _: list[str]) -> None:
    session.settings = replace(session.settings, stats=not session.settings.stats)


def _load(session: Session, words: list[str]) -> None:
    session.load(words[0])


def _again(session: Session, _: list[str]) -> None:
    if session.last is None:
        raise CommandError("there is no text yet; give a prompt first")
    session.write(session.last.prompt, (session.last.seed + 1) % 2**64)


def _save(session: Session, words: list[str]) -> None:
    first, _, rest = words[0].partition(" ")
    force = first == "--force" and bool(rest)
    say(f"saved in {printable(str(session.save(rest.strip() if force else words[0], force=force)))}")


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
    "/model": Command(summary="another model: a shipped one, a file or a folder", run=_load, arguments=("MODEL",),
                      now=lambda session: session.name, values=lambda _: shipped(), is_path=True),
    "/len": _setting("characters of a text", "N", "length"),
    "/temp": _setting("temperature: divides the logits; 0 is greedy", "X", "temperature"),
    "/sampling": _setting("which filter: basic, top_k, top_p, or entropy for the entropy rule", "NAME", "sampling",
                          values=PRESET_NAMES),
    "/topk": _setting("keep the K most likely characters; 0 is off", "K", "top_k"),
    "/topp": _setting("keep the most likely that hold P of the probability; 1 is off", "P", "top_p"),
    "/minp": _setting("keep those at least P times as likely as the likeliest; 0 is off", "P", "min_p"),
    "/entropy": _setting("the entropy that the rule steers to, in bits", "T", "target_entropy"),
    "/bounds": _setting("the temperatures that the rule keeps within", "MIN MAX", "min_temp", "max_temp"),
    "/mirostat": _setting("the surprise that mirostat steers to, in bits", "T|off", "mirostat", none="off",
                          values=("off",)),
    "/seed": _setting("the seed of every text", "N|random", "seed", none="random", values=("random",)),
    "/again": Command(summary="the same prompt with the next seed", run=_again),
    "/save": Command(summary="write the last text to a file; --force FILE overwrites one", run=_save,
                     arguments=("FILE",), is_path=True),
    "/heat": Command(summary="show the surprise of each character, or no longer", run=_switch_heat,
                     now=lambda session: _word(session.settings.heat)),
    "/stats": Command(summary="show statistics after each text, or no longer", run=_switch_stats,
                      now=lambda session: _word(session.settings.stats)),
    "/config": Command(summary="show the model and every setting", run=_show_config),
    "/help": Command(summary="show this", run=_show_help),
    "/quit": Command(summary="end the session", run=_quit),
}  # fmt: skip
