"""The subject of the tour: a model, a prompt and a seed, and the texts that they give."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from knock.choices import Preset
from knock.cli.demo.page import Cell
from knock.cli.ui.terminal import END_SIGN, printable
from knock.escapes import escape
from knock.generation.requests import prompt_tokens
from knock.generation.results import Generation
from knock.inspection import Inspection, inspect_text, longest_text
from knock.language_model import LanguageModel
from knock.reference import log_softmax
from knock.sampling import Sampling, TokenStats

ITEMS = 12  # items in a text of a model of items


@dataclass(frozen=True, kw_only=True, eq=False)
class Tour:
    """What the tour shows.

    Attributes:
        name: Name of the model.
        model: The model.
        prompt: The prompt of every text.
        seed: The seed of every text.
        length: Characters of a text; a model of items writes `ITEMS` items instead.
        options: Options of the model on the command line, for the commands that are shown.
    """

    name: str
    model: LanguageModel
    prompt: str
    seed: int
    length: int
    options: str = ""
    _written: dict[tuple[int, Sampling], list[Generation]] = field(default_factory=dict, init=False)

    @property
    def has_items(self) -> bool:
        """Whether the model is one of items."""
        return self.model.vocab.has_boundary

    @property
    def basic(self) -> list[Generation]:
        """The text that is drawn from the model's own distribution."""
        return self.write()

    def write(self, *, times: int = 1, sampling: Preset = "basic", **controls: Any) -> list[Generation]:
        """Return a text with statistics, as `knock generate` writes it; or several items. Texts are kept.

        Args:
            times: How many times as long as the others the text is.
            sampling: A preset.
            controls: Controls that override it.
        """
        chosen = Sampling.resolve(sampling, controls)  # type: ignore[arg-type]  # names of controls
        if (times, chosen) not in self._written:
            self._written[times, chosen] = self._write(times * self.length, chosen)
        return self._written[times, chosen]

    def _write(self, length: int, sampling: Sampling) -> list[Generation]:
        if self.has_items:
            return self.model.generate_batch(
                [self.prompt], sampling, n=ITEMS, max_new_tokens=None, seed=self.seed, token_stats=True
            )
        text = self.model.generate(
            self.prompt, max_new_tokens=length, sampling=sampling, seed=self.seed, token_stats=True
        )
        return [text]

    def as_typed(self, controls: str, *, times: int = 1, sampling: Preset = "basic") -> str:
        """Return the command that writes the same text; the arguments are as in `write`, controls as options."""
        is_plain = not {"\\", "\n", "\r"} & set(self.prompt)
        prompt = shlex.join([*([] if is_plain else ["-e"]), escape(self.prompt)]) if self.prompt else ""
        what, size = "generate", f"-n {times * self.length}"
        if self.has_items:
            what, size = "sample", f"-n {ITEMS} --format txt"
        words = ("knock", what, prompt, self.options, size, f"--sampling {sampling}", controls, f"-s {self.seed}")
        return printable(" ".join(filter(None, words)))

    def chances(self, text: str) -> npt.NDArray[np.float64]:
        """Return how likely each token is, at temperature 1, to follow the prompt and each character after it.

        Args:
            text: N characters after the prompt.

        Returns:
            Probabilities, [N + 1, V].
        """
        model = self.model
        before = prompt_tokens(self.prompt, model.vocab, "error")
        logits = model.model.logits(np.append(before, model.vocab.encode(text)))[len(before) - 1 :]
        return np.exp(log_softmax(logits.astype(np.float64)))

    def inspect(self, texts: Sequence[Generation]) -> list[Inspection]:
        """Return what the model expected at each character of texts, prompt included, and what its heads looked at.

        Texts without characters are left out, and what is beyond the longest text that can be inspected.
        """
        longest, top = longest_text(self.model.model.config), self.model.vocab.vocab_size
        wholes = ((self.prompt + each.text)[:longest] for each in texts)
        return [inspect_text(self.model, whole, top=top) for whole in wholes if whole]

    def cells(self, texts: Sequence[Generation], shown: Sequence[Sequence[Cell]] | None = None) -> Iterator[Cell]:
        """Yield texts as they are quoted: the prompt is bold; items follow each other with a sign at their ends.

        Args:
            texts: The texts.
            shown: The characters of each after the prompt, if they are to have styles or marks.
        """
        for number, text in enumerate(texts):
            if number:
                yield Cell(" ")
            yield from (Cell(char, "bold") for char in self.prompt)
            yield from ((Cell(char) for char in text.text) if shown is None else shown[number])
            if text.finish_reason == "end":
                yield Cell(END_SIGN, "dim")


def mean(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_]) -> float:
    """Return the mean; NaN if there are no values."""
    return float(values.mean()) if values.size else math.nan


def stats_of(texts: Sequence[Generation]) -> TokenStats:
    """Return the statistics of all characters of some texts."""
    return TokenStats.concatenate([text.token_stats for text in texts if text.token_stats is not None])
