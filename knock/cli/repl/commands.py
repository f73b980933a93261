"""The commands of the REPL: their arguments, effects and output."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from knock.choices import ENTROPY_RULES, PRESET_NAMES, UNKNOWN
from knock.cli.repl.candidates import UNITS
from knock.cli.repl.notices import filled, say_row
from knock.cli.repl.picking import pick, undo
from knock.cli.repl.session import Session
from knock.cli.repl.settings import Settings
from knock.cli.ui.greedy import blank_notice
from knock.cli.ui.shape import head_types, sizes
from knock.cli.ui.terminal import columns, printable, say
from knock.errors import KnockError
from knock.escapes import escape, unescape
from knock.generation.constraints.constraint import NO_CONSTRAINT
from knock.hints import suggestion
from knock.models import SUFFIXES, shipped
from knock.sampling import Sampling
from knock.validation import shown

_HELP = (
    "Each line is a prompt that the model continues. An empty line repeats the last prompt; before the first prompt, "
    "it starts a new line of text. In a model of items, a prompt is the beginning of an item and an empty line a new "
    "one; the text ends with its item. Type two slashes for a prompt that starts with one. Ctrl-C stops a text or "
    "clears the line; Ctrl-D ends the session."
)
_LABEL, _USAGE = 11, 22  # columns at which the texts of /config and /help start
_UNLIMITED = 10**6  # columns
_LISTED = 200  # characters of a vocabulary that are shown

_SWITCH = {"on": True, "off": False}

# What other programs call these commands.
_ALSO_CALLED = {
    "back": "/undo", "bye": "/quit", "choose": "/pick", "done": "/pick", "exit": "/quit", "load": "/model",
    "more": "/pick", "q": "/quit", "regenerate": "/again", "reload": "/model", "repeat": "/again", "retry": "/again",
    "set": "/config", "settings": "/config", "show": "/config", "stop": "/pick", "tokens": "/len", "write": "/save",
    "?": "/help", "h": "/help",
}  # fmt: skip

# Prompts on a terminal that are more likely meant as a command.
_PLAIN_WORDS = {
    **dict.fromkeys(("quit", "exit", "q", ":q", ":q!", ":wq", "quit()", "exit()"), "/quit or Ctrl-D ends the session"),
    **dict.fromkeys(("help", "?", "help()"), "/help lists the commands"),
}

# The same while the user writes a text with the model.
_WHILE_PICKING = {
    **_PLAIN_WORDS,
    **dict.fromkeys(("done", "stop", "end"), "/pick off ends the text"),
    **dict.fromkeys(("more", "other", "others"), "an empty line shows other candidates"),
    **dict.fromkeys(("undo", "back"), "/undo takes the last choice back"),
}


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
        arguments: Names of the arguments; brackets mark one that may be left out.
        settings: Names of the settings that the command changes.
        now: Returns the current value, in the form the command accepts; None if the command has no value.
        values: Returns possible arguments, for completion.
        completes: Whether a file or folder of this path is among the completions; None if the argument is no path.
    """

    summary: str
    run: Callable[[Session, list[str]], None]
    arguments: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    now: Callable[[Session], str] | None = None
    values: Callable[[Session], Iterable[str]] = lambda _: ()
    completes: Callable[[str], bool] | None = None

    @property
    def required(self) -> int:
        """Number of arguments that may not be left out."""
        return sum(not argument.startswith("[") for argument in self.arguments)

    def unused(self, settings: Settings, *, has_items: bool) -> str | None:
        """Return why the settings of this command have no effect, or None if they have one."""
        return next(filter(None, (settings.unused(name, has_items=has_items) for name in self.settings)), None)


def handle(session: Session, line: str) -> None:
    """Handle a line: run a command, or generate a text from a prompt.

    Raises:
        KnockError: if the line cannot be handled.
        Quit: if the line ends the session.
        KeyboardInterrupt: after Ctrl-C.
    """
    refused, session.refused = session.refused, None
    if line.startswith("/") and not line.startswith("//"):
        _run_command(session, line)
    elif session.is_terminal and line != refused and (meant := _meant(session, line.strip().lower())):
        session.refused = line
        use = "write it" if session.picking else "use it as a prompt"
        say(f"{meant}; enter {line.strip()} again to {use}")
    elif session.picking is not None:
        session.picking.take(line)
    elif line:
        prompt = line.removeprefix("/")
        _write(session, unescape(prompt) if session.settings.escapes else prompt)
    else:
        _write(session, session.last.prompt if session.last and not session.has_items else "")


def _meant(session: Session, line: str) -> str | None:
    """Return a hint for a line that is more likely meant as a command, or None."""
    return (_WHILE_PICKING if session.picking else _PLAIN_WORDS).get(line)


def _write(session: Session, prompt: str, seed: int | None = None) -> None:
    """Generate a text; on a terminal, refuse to fill it with blank lines."""
    controls = session.settings.controls()
    is_constrained = session.settings.constraint != NO_CONSTRAINT
    notice = None
    if not is_constrained:
        notice = blank_notice(session.model, prompt, controls, temperature="/temp", top_k="/topk")
    if notice:
        say(notice)
    if not (notice and session.is_terminal):
        session.write(prompt, seed)


def _run_command(session: Session, line: str) -> None:
    name, *rest = line.split(maxsplit=1)
    if name not in COMMANDS:
        close = _closest(name)
        meant = f"; did you mean {close}?" if close else ";"
        raise CommandError(
            f"unknown command {shown(name)}{meant} /help lists the commands, and // starts a prompt with /"
        )
    command, before = COMMANDS[name], session.settings
    given = "".join(rest).rstrip()
    words = given.split(maxsplit=max(0, len(command.arguments) - 1))
    try:
        if not command.required <= len(words) <= len(command.arguments):
            expected = " and ".join(command.arguments) or "no argument"
            raise CommandError(f"expected {expected}, got {shown(given) if given else 'nothing'}")
        command.run(session, words)
    except KnockError as error:
        now = f"; it is still {printable(command.now(session))}" if command.now else ""
        raise CommandError(f"{name}: {error}{now}") from error
    if command.now:
        say(f"{name[1:]} {printable(command.now(session))}")
    if session.settings != before:
        _report_unused(session, command, before)
        if session.picking is not None:
            session.picking.offer()


def _closest(name: str) -> str | None:
    """Return the command that a misspelt one may stand for, or None."""
    known = {each[1:]: each for each in COMMANDS}
    for each, command in COMMANDS.items():  # after the names, which decide between equals
        known.update((setting, each) for setting in command.settings if setting not in known)
    close = suggestion(name[1:].lower().replace("-", "_"), [*known, *_ALSO_CALLED])
    return {**_ALSO_CALLED, **known}[close] if close else None


def _report_unused(session: Session, changed: Command, before: Settings) -> None:
    """Report if the changed setting has no effect, and which other settings just lost theirs."""
    for name, command in COMMANDS.items():
        reason = command.unused(session.settings, has_items=session.has_items)
        is_news = reason != command.unused(before, has_items=session.has_items)
        if reason and (command is changed or (is_news and _is_set(command, session.settings))):
            say(f"{name[1:]} has no effect now: {reason}")


def _is_set(command: Command, settings: Settings) -> bool:
    off = {**vars(Settings()), **vars(Sampling())}
    return any(getattr(settings, name) != off[name] for name in command.settings)


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
        session.change(**given)

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


def _switch(summary: str, name: str, after: Callable[[Session], None] = lambda _: None) -> Command:
    """Return a command that turns a setting on or off.

    Args:
        summary: What the command does.
        name: Name of the setting.
        after: Called once the setting has been turned on.
    """

    def run(session: Session, words: list[str]) -> None:
        if words and words[0] not in _SWITCH:
            raise CommandError(f"expected on, off or no argument, got {shown(words[0])}")
        is_on = _SWITCH[words[0]] if words else not getattr(session.settings, name)
        session.change(**{name: is_on})
        if is_on:
            after(session)

    return Command(
        summary=summary,
        run=run,
        arguments=("[on|off]",),
        settings=(name,),
        now=lambda session: _word(getattr(session.settings, name)),
        values=lambda _: _SWITCH,
    )


def _explain_heat(session: Session) -> None:
    from knock.cli.repl.heat_page import explain  # imports rich

    explain(session.is_terminal)


def _choose_preset(session: Session, words: list[str]) -> None:
    session.settings = session.settings.with_preset(words[0])


def _set_pattern(session: Session, words: list[str]) -> None:
    session.change(pattern=None if words[0] == "off" else words[0])


def _ban(session: Session, words: list[str]) -> None:
    """Ban strings, separated by spaces; quotes hold one with spaces together."""
    if words[0] == "off":
        session.change(ban=())
        return
    lexer = shlex.shlex(words[0], posix=True)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    try:
        strings = tuple(map(unescape, lexer))
    except ValueError as error:
        raise CommandError("a quote is not closed; put a string with a quote in the other quotes") from error
    session.change(ban=strings)


def _banned(session: Session) -> str:
    """Return the banned strings as `_ban` reads them."""
    return " ".join(map(_in_quotes, session.settings.ban)) or "off"


def _in_quotes(string: str) -> str:
    text = escape(string).replace("\t", "\\t")
    if text != "off" and not any(char.isspace() or char in "\"'" for char in text):
        return text
    return "'\"'".join(f'"{part}"' for part in text.split('"'))


def _load(session: Session, words: list[str]) -> None:
    session.load(words[0])
    session.end_picking()


def _again(session: Session, _: list[str]) -> None:
    if session.last is None:
        raise CommandError("nothing has been generated yet; enter a prompt first")
    session.end_picking()
    _write(session, session.last.prompt, (session.last.seed + 1) % 2**64)


def _save(session: Session, words: list[str]) -> None:
    first, _, rest = words[0].partition(" ")
    force = first == "--force" and bool(rest)
    say(f"saved to {printable(str(session.save(rest.strip() if force else words[0], force=force)))}")


def _show_config(session: Session, _: list[str]) -> None:
    width = columns() if sys.stderr.isatty() else _UNLIMITED  # a script has one line for each setting

    def show(label: str, text: str) -> None:
        say_row(label, text, _LABEL, width)

    for name, command in COMMANDS.items():
        if command.now:
            reason = command.unused(session.settings, has_items=session.has_items)
            show(name, printable(command.now(session)) + (f" (no effect now: {reason})" if reason else ""))
    config = session.model.model.config
    show("heads", f"{head_types(config)}, {config.position} positions")
    show("shape", sizes(config))
    show("parameters", f"{session.model.model.weights.n_parameters:,}")
    _show_vocabulary(printable(session.model.vocab.describe(_LISTED)), width)


def _show_vocabulary(described: str, width: int) -> None:
    """Show the characters, which are no words: lines may break anywhere."""
    from rich.cells import chop_cells

    lines = f"\n{' ' * _LABEL}".join(chop_cells(described, max(10, width - _LABEL)))
    say(f"{'vocabulary':<{_LABEL}}{lines}", is_essential=True)


def _show_help(_: Session, __: list[str]) -> None:
    say(filled(_HELP, columns()), is_essential=True)
    for name, command in COMMANDS.items():
        say_row(f"  {' '.join((name, *command.arguments))}", command.summary, _USAGE, columns())


def _quit(_: Session, __: list[str]) -> None:
    raise Quit


def _may_be_model(path: str) -> bool:
    """Whether a path is a folder, or a file with the suffix of models."""
    return Path(path).suffix.lower() in SUFFIXES or Path(path).is_dir()


COMMANDS = {
    "/model": Command(summary="load another model: a shipped one, a file or a folder", run=_load, arguments=("MODEL",),
                      now=lambda session: session.name, values=lambda _: shipped(), completes=_may_be_model),
    "/len": _setting("characters to generate", "N", "length"),
    "/sampling": Command(summary="set all controls of sampling to those of a preset: balanced (temperature 0.8, top-p "
                                 "0.95), basic (no change to the model's probabilities), top_k, top_p, or entropy",
                         run=_choose_preset, arguments=("NAME",), now=lambda session: session.settings.preset,
                         values=lambda _: PRESET_NAMES),
    "/temp": _setting("temperature, which divides the logits; 0 is greedy", "X", "temperature"),
    "/topk": _setting("keep the K most likely characters; 0 turns it off", "K", "top_k"),
    "/topp": _setting("keep the most likely characters with total probability P; 1 turns it off", "P", "top_p"),
    "/minp": _setting("keep characters at least P times as likely as the most likely; 0 turns it off", "P", "min_p"),
    "/entropy": _setting("set the temperature at each step so that the entropy is near BITS", "BITS|off",
                         "target_entropy", none="off", values=("off",)),
    "/rule": _setting("entropy rule: exact, or ratio for sqrt(BITS / entropy)", "RULE", "entropy_rule",
                      values=ENTROPY_RULES),
    "/bounds": _setting("lowest and highest temperature of the entropy rule", "MIN MAX", "min_temp", "max_temp"),
    "/mirostat": _setting("keep the surprise near BITS per character", "BITS|off", "mirostat", none="off",
                          values=("off",)),
    "/norepeat": _setting("never repeat a run of N characters; 0 turns it off", "N", "no_repeat_ngram"),
    "/dry": _setting("lower the logits of characters that would lengthen a repetition, by X at least (DRY); 0 turns it "
                     "off", "X", "dry_multiplier"),
    "/pattern": Command(summary="regular expression that the whole text must match, or, in a model of items, the whole "
                                "item", run=_set_pattern, arguments=("REGEX|off",), settings=("pattern",),
                        now=lambda session: session.settings.pattern or "off",
                        values=lambda session: dict.fromkeys(("off", session.settings.pattern or "off"))),
    "/minlen": _setting("fewest characters of a text", "N", "min_length"),
    "/maxlen": _setting("most characters of a text; an item ends by then", "N|off", "max_length", none="off",
                        values=("off",)),
    "/ban": Command(summary="strings that the text must not contain, separated by spaces; quotes hold one with spaces "
                            "together, \\n is a newline", run=_ban, arguments=("STRING...|off",), settings=("ban",),
                    now=_banned, values=lambda session: dict.fromkeys(("off", _banned(session)))),
    "/seed": _setting("seed of every text", "N|random", "seed", none="random", values=("random",)),
    "/unknown": _setting("treat characters that the model does not know as an error, skip or replace them",
                         "HOW", "unknown", values=UNKNOWN),
    "/escapes": _switch("read \\n, \\t and \\\\ in prompts as a newline, a tab and a backslash", "escapes"),
    "/again": Command(summary="repeat the last prompt with the next seed", run=_again),
    "/pick": Command(summary="write with the model: choose each word among N, or each line with /pick N line; the last "
                             "text goes on, or /pick N word PROMPT begins with PROMPT", run=pick,
                     arguments=("[N|off]...",), values=lambda _: ("off", *(f"5 {unit}" for unit in UNITS))),
    "/undo": Command(summary="take the last choice of /pick back", run=undo),
    "/save": Command(summary="save the last text to a file; --force FILE overwrites it", run=_save,
                     arguments=("FILE",), completes=lambda _: True),
    "/heat": _switch("show the surprise of each character", "heat", _explain_heat),
    "/stats": _switch("show statistics after each text; without them, a line has its length, its mean surprise "
                      "(-log2 of the model's probability of each character, in bits) and its seed", "stats"),
    "/config": Command(summary="show the model and all settings", run=_show_config),
    "/help": Command(summary="show this help", run=_show_help),
    "/quit": Command(summary="end the session", run=_quit),
}  # fmt: skip
