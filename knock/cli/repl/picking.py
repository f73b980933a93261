"""Writing with the model: the user chooses each word or line among candidates, or writes their own."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from rich.cells import chop_cells

from knock.cli.repl.candidates import UNITS, Candidate, draw, joint
from knock.cli.repl.notices import filled
from knock.cli.repl.session import Session, Text
from knock.cli.ui.terminal import END_SIGN, columns, printable, say
from knock.errors import KnockError, SamplingError, UnknownCharacterError, VocabError
from knock.escapes import unescape
from knock.sampling import resolve_seed
from knock.validation import shown, whole_number
from knock.words import counted

MOST = 20  # candidates
_COUNT, _UNIT = 5, "word"
_LINES = 3  # of the text so far that are shown above the candidates
_UNLIMITED = 10**6  # columns
_MOST_DIGITS = 10
_KEYS = "your own words; Enter: others, /undo, /pick off: done"


@dataclass(frozen=True)
class Piece:
    """A part of a text.

    Attributes:
        text: Its characters.
        surprise: Surprise of each of them in bits; None if they were not chosen among candidates.
        ended: The unit that it ends with, which the next piece must not lengthen; None if it may.
    """

    text: str
    surprise: tuple[float, ...] | None = None
    ended: str | None = None


@dataclass(frozen=True)
class Offer:
    """What the user can choose from.

    Attributes:
        candidates: Candidates that are shown, by number.
        earlier: Candidates for the same place that were shown before.
        next_draw: Number of the first text of this step that was not drawn yet.
    """

    candidates: tuple[Candidate, ...] = ()
    earlier: tuple[Candidate, ...] = ()
    next_draw: int = 0


class Picking:
    """A text that the user writes by choosing among candidates.

    Args:
        session: The session, whose settings count whenever candidates are drawn.
        prompt: The beginning of the text.
        text: What follows it already.
        seed: The seed of the candidates.

    Attributes:
        count: Number of candidates.
        unit: What they are: `"word"` or `"line"`.
    """

    def __init__(self, session: Session, prompt: str, text: str, seed: int) -> None:
        self.count, self.unit = _COUNT, _UNIT
        self.seed = seed
        self._session = session
        self._prompt = prompt
        self._given = [Piece(text)] if text else []
        self._chosen: list[Piece] = []
        self._offer = Offer()

    @property
    def text(self) -> str:
        """The text after the prompt, so far."""
        return "".join(piece.text for piece in (*self._given, *self._chosen))

    def take(self, line: str) -> None:
        """Handle what the user entered: the number of a candidate, an empty line for others, or their own words.

        Raises:
            KnockError: if there is no such candidate, or the words are not possible; the text is unchanged.
        """
        if not line.rstrip():
            self._offer_more()
        elif re.fullmatch(r"[0-9]+\s*", line):
            candidate = self._candidate(line)
            ended = self.unit if candidate.is_whole else None
            self._append(Piece(candidate.text, candidate.surprise, ended), is_end=candidate.ends)
        else:
            own = line.removeprefix("/") if line.startswith("//") else line
            self._append_own(unescape(own) if self._session.settings.escapes else own)

    def undo(self) -> None:
        """Take the last piece back.

        Raises:
            KnockError: if there is none.
        """
        if not self._chosen:
            raise SamplingError("nothing has been chosen yet; /pick off ends the text")
        *self._chosen, _ = self._chosen
        self.offer()

    def offer(self, count: int | None = None, unit: str | None = None) -> None:
        """Draw candidates for the next piece, and show them.

        Args:
            count: How many from now on; None for as many as before.
            unit: What they are from now on; None for what they were before.

        Raises:
            KnockError: if they cannot be drawn; number and unit are unchanged.
        """
        before = self.count, self.unit
        self.count, self.unit = count or self.count, unit or self.unit
        try:
            self._set(self._draw(self._chosen, Offer()))
        except KnockError:
            self.count, self.unit = before
            raise

    def end(self) -> None:
        """Write the text to standard output, if there is one."""
        session, text = self._session, self.text
        session.picking = None
        if not self._prompt and not text:
            say("nothing was written")
            return
        page = session.page()
        page.begin(self._prompt)
        for piece in (*self._given, *self._chosen):
            page.write(piece.text, piece.surprise if session.settings.heat else None)
        page.end()
        say(f"{counted(len(text), 'character')}, {counted(len(self._chosen), 'choice')}, seed {self.seed}", style="dim")

    def _candidate(self, line: str) -> Candidate:
        number, most = int(line[:9]), len(self._offer.candidates)
        if not 1 <= number <= most:
            numbers = f"a number from 1 to {most}" if most > 1 else "1" if most else "words of your own"
            raise SamplingError(
                f"there is no candidate {shown(line.strip())}; enter {numbers}, or an empty line for others"
            )
        return self._offer.candidates[number - 1]

    def _append_own(self, own: str) -> None:
        session = self._session
        try:
            tokens = session.model.vocab.encode(own, unknown=session.settings.unknown)
        except UnknownCharacterError as error:
            raise VocabError(error.advice("/unknown skip", "/unknown replace")) from error
        so_far = self._prompt + self.text
        self._append(Piece(joint(so_far, own, self.unit, session.model.vocab) + session.model.vocab.decode(tokens)))

    def _append(self, piece: Piece, *, is_end: bool = False) -> None:
        chosen = [*self._chosen, piece]
        if not is_end:
            offer = self._draw(chosen, Offer())  # before the piece is kept: it may make a text that is not allowed
        self._chosen = chosen
        self._session.last = Text(prompt=self._prompt, text=self.text, seed=self.seed)
        if is_end:
            self.end()
        else:
            self._set(offer)

    def _offer_more(self) -> None:
        offer = self._draw(self._chosen, self._offer)
        if not offer.candidates:
            say("no others were drawn; /temp raises the temperature, and so the variety", is_essential=True)
            return
        self._set(offer)

    def _draw(self, chosen: list[Piece], before: Offer) -> Offer:
        session = self._session
        settings, has_items = session.settings, session.has_items
        if not has_items and (settings.pattern is not None or settings.max_length is not None):
            raise SamplingError("a text in pieces cannot be held to /pattern and /maxlen; turn them off")
        written = "".join(piece.text for piece in (*self._given, *chosen))
        earlier = (*before.earlier, *before.candidates)
        drawn = draw(
            session.model, settings, self.unit, self._prompt, written, self.seed, len(chosen), count=self.count,
            first=before.next_draw, ended=chosen[-1].ended if chosen else None, known=earlier,
        )  # fmt: skip
        return Offer(drawn.candidates, earlier, drawn.next_draw)

    def _set(self, offer: Offer) -> None:
        """Keep an offer and show it below the last lines of the text."""
        self._offer = offer
        if self._chosen:
            self._session.last = Text(prompt=self._prompt, text=self.text, seed=self.seed)
        text, width = self._prompt + self.text, columns() if sys.stderr.isatty() else _UNLIMITED
        for line in _tail(text, width):
            say(line, style="bold", is_essential=True)
        say(f"    bits  next {self.unit} (few bits: likely)", style="dim", is_essential=True)
        for number, candidate in enumerate(offer.candidates, 1):
            label = f"{number:>2} {candidate.bits:>5.1f}  "
            say(filled(_visible(candidate, text), width, label, " " * len(label)), is_essential=True)
        if len(offer.candidates) < self.count:
            say(f"no others in {counted(offer.next_draw, 'draw')}; /temp raises the temperature, and so the variety")
        if self._session.is_terminal:
            most = len(offer.candidates)
            say(("" if not most else "1 or " if most == 1 else f"1-{most} or ") + _KEYS, style="dim")


def pick(session: Session, words: list[str]) -> None:
    """Begin to write a text in pieces, or change what is offered: the command `/pick [N|off] [word|line] [PROMPT]`.

    Without a prompt, the last text goes on; an item is always a new one.

    Raises:
        KnockError: if an argument is invalid, or no candidates can be drawn.
    """
    current = session.picking
    if words == ["off"]:
        if current is None:
            raise SamplingError("no text is being written; /pick 5 begins one")
        current.end()
        return
    count, unit, prompt = _arguments(words[0] if words else "")
    if current is not None and not prompt:
        current.offer(count, unit)
        return
    settings, last = session.settings, session.last
    if prompt or last is None or session.has_items:
        before, text = unescape(prompt) if settings.escapes else prompt, ""
    else:
        before, text = last.prompt, last.text
    picking = Picking(session, before, text, resolve_seed(settings.seed))
    if current is not None:
        current.end()
    picking.offer(count, unit)
    session.picking = picking


def undo(session: Session, _: list[str]) -> None:
    """Take the last choice back: the command `/undo`.

    Raises:
        KnockError: if there is none.
    """
    if session.picking is None:
        raise SamplingError("no text is being written; /pick 5 begins one")
    session.picking.undo()


def _arguments(given: str) -> tuple[int | None, str | None, str]:
    """Return the number of candidates and the unit, None if they are not given, and the prompt."""
    count, unit = None, None
    first, _, rest = given.partition(" ")
    if first not in ("", *UNITS):
        number = int(first) if first.isdecimal() and len(first) < _MOST_DIGITS else first
        count, given = whole_number("N", number, 1, MOST, error=SamplingError), rest.lstrip(" ")
    first, _, rest = given.partition(" ")
    if first in UNITS:
        unit, given = first, rest
    elif given:
        raise SamplingError(f"expected word or line, got {shown(first)}; a prompt comes after it")
    return count, unit, given


def _tail(text: str, width: int) -> list[str]:
    """Return the last lines of a text, as they are shown on a terminal."""
    lines = [each for line in text.split("\n") for each in chop_cells(printable(line), width) or [""]]
    while lines and not lines[0]:
        lines.pop(0)
    return lines[-_LINES:]


def _visible(candidate: Candidate, text: str) -> str:
    """Return a candidate as it is shown after a text: without the space between them, with a sign for a newline."""
    piece = candidate.text
    if not piece.isspace():
        piece = piece.removeprefix(" ") if piece[:1].isspace() or text[-1:].isspace() or not text else f"…{piece}"
        piece = piece.replace("\n", "↵")
    else:
        piece = piece.replace(" ", "␣").replace("\n", "↵")
    return printable(piece) + (END_SIGN if candidate.ends else "")
