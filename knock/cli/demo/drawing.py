"""Steps of the tour about how characters are drawn: the next character, the temperature, top-p."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import numpy.typing as npt

from knock.cli.demo.page import Cell, command, note, quote, quoted, say, sign, width
from knock.cli.demo.tour import Tour, mean, stats_of
from knock.cli.ui.terminal import END, printable, write
from knock.words import counted

TEMPERATURES = (0.2, 0.8, 1.5)
TOP_P = 0.9
HOT = 1.2  # temperature of the text in which top-p leaves something out
_SOON = 40  # characters after the prompt among which the place of the largest entropy is looked for
_LIKELIEST = 6  # characters whose chances are shown
_LEAST = 0.01  # chance of a character that is shown
_TINY = 1e-300  # chance whose logarithm is finite
_BAR = 30  # columns of a bar, at most
_WORDS = 8  # words that are listed


def next_character(tour: Tour) -> None:
    """Show how likely each character is to follow the prompt, and where the model is least sure soon after."""
    vocab, weights = tour.model.vocab, tour.model.model.weights
    say(
        f"{printable(tour.name)} is a language model with {weights.n_parameters:,} weights. It reads a text one "
        f"character at a time. After each, it says how likely every one of the {len(vocab.characters)} characters that "
        "it knows is to come next. That is all it does."
    )
    text = tour.basic[0].text[:_SOON]
    chances = tour.chances(text)
    _show_chances(tour, "", chances[0])
    unsure = int((-chances * np.log2(np.maximum(chances, _TINY))).sum(-1).argmax())  # by the entropy
    if unsure:
        _show_chances(tour, text[:unsure], chances[unsure])
    say(
        "To write, it draws a character by these chances, reads it, and asks itself again. A seed decides the draws: "
        f"this tour has seed {tour.seed}, and whoever has the same model and seed gets the same texts."
    )


def _show_chances(tour: Tour, text: str, chances: npt.NDArray[np.float64]) -> None:
    """Write the likeliest characters after the prompt and a text, as bars."""
    vocab, before, room = tour.model.vocab, tour.prompt + text, min(_BAR, width() - 15)
    say(f"{f'After {quoted(before)}' if before else 'At the beginning'}, it expects:")
    likeliest = [token for token in np.argsort(-chances, kind="stable")[:_LIKELIEST] if chances[token] >= _LEAST]
    rows = [
        (sign(END if token == vocab.boundary else vocab.characters[token]), float(chances[token]))
        for token in likeliest
    ]
    rows.append(("others", max(0.0, 1 - sum(chance for _, chance in rows))))
    write("".join(f"  {name:<6} {chance:>4.0%}  {'█' * round(chance * room)}".rstrip() + "\n" for name, chance in rows))


def temperature(tour: Tour) -> None:
    """Show the same prompt at several temperatures."""
    say(
        "The temperature changes the chances before each draw. Below 1, the likely characters become likelier still; "
        f"above 1, the unlikely ones gain. The same {'seed' if tour.has_items else 'prompt and seed'} at "
        f"{len(TEMPERATURES)} temperatures:"
    )
    means = []
    for value in TEMPERATURES:
        texts = tour.write(temperature=value)
        stats = stats_of(texts)
        command(tour.as_typed(f"-t {value:g}"))
        quote(tour.cells(texts))
        is_likeliest = stats.surprise <= 1e-6 - np.log2(stats.confidence)
        means.append(mean(stats.surprise))
        note(f"surprise {means[-1]:.2f} bits a character; the likeliest was taken {mean(is_likeliest):.0%} of the time")
    first, last = means[0], means[-1]
    say(
        "Surprise is what the model makes of its own text: 0 bits for a character that it was sure of, 1 bit for a "
        f"toss of a coin, and each further bit for half the chance. It {'rose' if last > first else 'went'} from "
        f"{first:.2f} to {last:.2f} bits: cold texts are safe and say the same things, hot ones are bold and misspelt."
    )


def top_p(tour: Tour) -> None:
    """Show which characters of a text top-p would not have drawn, and a text without such."""
    texts = tour.write(temperature=HOT)
    marked = [
        [Cell(char, is_marked=bool(is_out)) for char, is_out in zip(each.text, outside(tour, each.text), strict=True)]
        for each in texts
    ]
    count, total = sum(cell.is_marked for cells in marked for cell in cells), sum(map(len, marked))
    say(
        "At each step, most characters are wrong, and each has a small chance. Together, these chances are not small, "
        f"and a text has many steps. At temperature {HOT:g}, {count} of {counted(total, 'character')} (^) were not "
        f"among the likeliest that share {TOP_P:.0%} of the chances:"
    )
    command(tour.as_typed(f"-t {HOT:g}"))
    quote(tour.cells(texts, marked))
    words = _marked_words(marked)
    if words:
        more = f" and {len(words) - _WORDS} more" if len(words) > _WORDS else ""
        note(f"words that have one within: {', '.join(words[:_WORDS])}{more}")
    say(
        "A caret is not a mistake: a daring word has one, too. But most misspelt words have one, at their wrong letter "
        f"or before. Top-p {TOP_P:g} draws only from the likeliest characters that share {TOP_P:.0%} of the chances, "
        "so this text has no such character:"
    )
    safer = tour.write(temperature=HOT, top_p=TOP_P)
    command(tour.as_typed(f"-t {HOT:g} -p {TOP_P:g}"))
    quote(tour.cells(safer))
    before, after = (float(stats_of(each).surprise.max(initial=0)) for each in (texts, safer))
    note(f"largest surprise of a character: {before:.1f} bits before, {after:.1f} bits now")


def outside(tour: Tour, text: str) -> npt.NDArray[np.bool_]:
    """Return which characters after the prompt top-p would not have drawn at temperature `HOT`, [N]."""
    tokens = tour.model.vocab.encode(text)
    chances = tour.chances(text)[:-1] ** (1 / HOT)
    chances /= chances.sum(-1, keepdims=True)
    own = chances[np.arange(len(tokens)), tokens][:, None]
    likelier: npt.NDArray[np.bool_] = np.where(chances > own, chances, 0).sum(-1) >= TOP_P
    return likelier


def _marked_words(texts: list[list[Cell]]) -> list[str]:
    """Return the words with a marked letter that is not their first."""
    words: list[str] = []
    for cells in texts:
        for is_word, run in groupby(cells, lambda cell: cell.char.isalpha() or cell.char in "-'"):
            word = list(run)
            if is_word and any(cell.is_marked for cell in word[1:]):
                words.append("".join(cell.char for cell in word))
    return words
