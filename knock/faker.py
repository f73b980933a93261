"""A provider for Faker whose values are written by a model: names, lines or rows like the ones it was trained on.

    from faker import Faker
    import knock.faker

    fake = Faker()
    fake.add_provider(knock.faker.provider("names", "new_name"))
    Faker.seed(1)
    fake.new_name()
    fake.new_name(prompt="Ma")
    fake.unique.new_name()

A value depends only on the model, the arguments and Faker's random numbers, so the same seed gives the same values. In
pytest, Faker's own fixture `faker` is seeded before each test:

    import knock.faker
    import pytest

    names = knock.faker.provider("names", "new_name")  # once, since it loads the model

    @pytest.fixture
    def fake(faker):
        faker.add_provider(names)
        return faker

    def test_greeting(fake):
        name = fake.new_name()
        assert f"Hello {name}!" == "Hello " + name + "!"
"""

from __future__ import annotations

import keyword
import os
from collections.abc import Iterable
from typing import Unpack

from knock.choices import Unknown
from knock.errors import SamplingError, TooFewError, missing_package
from knock.files.known_items import known_items
from knock.generation.filters import Accept, Filters, describe, is_open_ended
from knock.generation.known_texts import KnownRuns, KnownTexts, Source
from knock.generation.options import TextOptions
from knock.generation.requests import beginning
from knock.generation.results import Generation
from knock.generation.stopping import StopStrings
from knock.hints import hint_at
from knock.language_model import LanguageModel, load
from knock.sampling import Sampling
from knock.validation import shown, whole_number

try:
    from faker.providers import BaseProvider
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "faker":
        raise
    raise missing_package("knock.faker", "Faker", "faker") from None

# What the method of a provider does not take, because all its values have them in common.
_OF_PROVIDER = {
    "seed": "Faker.seed or fake.seed_instance",
    **dict.fromkeys(
        ("accept", "keep_cut", "max_new_tokens", "max_overlap", "novel", "sampling", "stop", "tries", "unknown"),
        "knock.faker.provider, which has it",
    ),
}


def provider(
    model: LanguageModel | str | os.PathLike[str] = "names",
    method: str = "item",
    *,
    novel: Source | None = None,
    max_overlap: tuple[int, Source] | None = None,
    accept: Accept | None = None,
    keep_cut: bool = False,
    tries: int = 1000,
    max_new_tokens: int | None = None,
    sampling: str | Sampling = "basic",
    stop: str | Iterable[str] | None = None,
    unknown: Unknown = "error",
    **options: Unpack[TextOptions],
) -> type[BaseProvider]:
    """Return a provider class, for `Faker.add_provider`, with one method that returns a new text of a model.

    The method takes `prompt`, the beginning of the text, and controls and constraints (`TextOptions`) that override
    those given here, such as `fake.new_name(prompt="Ma", max_length=6)`. In a model of items, a text is a whole item,
    with the prompt; otherwise it is the text after the prompt, and `stop` says where it ends.

    Texts repeat as often as the model repeats them; Faker's `fake.unique` returns different ones.

    Args:
        model: a model, or an argument of `load`.
        method: name of the method.
        novel: texts that are never returned: a file with one per line, or an iterable of texts.
        max_overlap: as in `LanguageModel.items`.
        accept: as in `LanguageModel.items`.
        keep_cut: as in `LanguageModel.items`.
        tries: most texts to draw for one that passes.
        max_new_tokens: as in `LanguageModel.items`.
        sampling: as in `LanguageModel.generate`.
        stop: as in `LanguageModel.generate`.
        unknown: as in `LanguageModel.generate`.
        options: as in `LanguageModel.generate`.

    Raises:
        CheckpointError: if there is no such model.
        SamplingError: if an argument is out of range. The method raises it, too, and `TooFewError` if no text passes.
    """
    if not isinstance(method, str) or not method.isidentifier() or keyword.iskeyword(method) or method[0] == "_":
        raise SamplingError(f"method must be the name of a public method, such as 'new_name', got {shown(method)}")
    tries = whole_number("tries", tries, 1, error=SamplingError)
    lm = model if isinstance(model, LanguageModel) else load(model)
    length = lm.default_length if max_new_tokens is None else max_new_tokens
    strings = StopStrings(stop).strings
    keeps_cut = keep_cut or is_open_ended(lm.vocab, strings)

    def known(source: Source) -> list[Source]:
        return known_items(source, lm.training, lm.schema)

    copies = None if novel is None else KnownTexts(*known(novel))
    runs = None if max_overlap is None else KnownRuns.of(max_overlap, known)

    def text_of(seed: int, prompt: str, overrides: TextOptions) -> Generation:
        return lm.generate(
            prompt, max_new_tokens=length, sampling=sampling, seed=seed, stop=strings, unknown=unknown,
            **(options | overrides),
        )  # fmt: skip

    def filters() -> Filters:
        return Filters(novel=copies, overlap=runs, accept=accept, keep_cut=keeps_cut)

    def item(self: BaseProvider, prompt: str = "", **overrides: Unpack[TextOptions]) -> str:
        """Return a text of the model that begins with the prompt; its seed comes from Faker's random numbers."""
        judge, prefix = filters(), beginning(prompt, lm.vocab, unknown)
        for _ in range(tries):
            text = text_of(self.generator.random.getrandbits(64), prompt, overrides)
            if judge.keep(prefix + text.text, text.finish_reason):
                return prefix + text.text
        raise TooFewError([], 1, describe(judge))

    filters()
    text_of(0, "", {})  # every argument is checked here, not when the first value is needed
    item.__name__, item.__qualname__ = method, f"KnockProvider.{method}"
    return type("KnockProvider", (BaseProvider,), {method: hint_at(_OF_PROVIDER, TextOptions)(item)})
