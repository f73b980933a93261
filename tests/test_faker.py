"""Tests of the Faker provider: its values, their seeds and filters, and the examples of its documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faker")

from faker import Faker

import knock.faker
from knock import LanguageModel, ModelConfig, ReweightGPT, Vocab
from knock.errors import CheckpointError, SamplingError, TooFewError
from knock.faker import provider
from tests.cases import random_weights

CONFIG = ModelConfig(vocab_size=5, T=4, n_emb=8, nodes=8, n_blocks=1, n_heads=2, head_type="reweight")


@pytest.fixture(scope="module")
def items() -> LanguageModel:
    """A model of items that are words of a, b, c and d."""
    return LanguageModel(ReweightGPT.from_weights(random_weights(CONFIG, 3)), Vocab("abcd", boundary=True))


def fake_with(*arguments: Any, seed: int = 1, **options: Any) -> Faker:
    fake = Faker()
    fake.add_provider(provider(*arguments, **options))
    fake.seed_instance(seed)
    return fake


def values(fake: Faker, count: int = 20, method: str = "item") -> list[str]:
    return [getattr(fake, method)() for _ in range(count)]


def test_values_are_whole_items_and_depend_on_the_seed_alone(items: LanguageModel) -> None:
    result = values(fake_with(items))
    assert result == values(fake_with(items))
    assert result != values(fake_with(items, seed=2))
    assert len(set(result)) > 5
    assert all(re.fullmatch("[abcd]*", each) for each in result)


def test_faker_seeds_the_values(items: LanguageModel) -> None:
    fake = Faker()
    fake.add_provider(provider(items, "word_like"))
    Faker.seed(7)
    expected = [(fake.word_like(), fake.random_int()) for _ in range(5)]
    Faker.seed(7)
    assert [(fake.word_like(), fake.random_int()) for _ in range(5)] == expected


def test_a_value_is_what_generate_returns_for_the_seed_that_faker_draws(items: LanguageModel) -> None:
    fake = fake_with(items, keep_cut=True, temperature=0.5)
    seed = Faker().random.__class__(1).getrandbits(64)
    assert fake.item() == items.generate(seed=seed, max_new_tokens=items.default_length, temperature=0.5).text


def test_unique_values(items: LanguageModel) -> None:
    fake = fake_with(items, max_length=2)
    assert len({fake.unique.item() for _ in range(8)}) == 8


def test_prompt_and_constraints_of_a_call_override_those_of_the_provider(items: LanguageModel) -> None:
    fake = fake_with(items, pattern="[ab]+", max_length=4)
    assert all(re.fullmatch("[ab]{1,4}", value) for value in values(fake))
    assert all(re.fullmatch("ba[ab]{0,2}", fake.item("ba")) for _ in range(20))
    assert all(re.fullmatch("c{2,4}", fake.item(pattern="c+", min_length=2)) for _ in range(20))


def test_filters(items: LanguageModel) -> None:
    plain = set(values(fake_with(items, max_length=3), 200))
    known = sorted(plain)[::2]
    result = set(values(fake_with(items, max_length=3, novel=known, accept=lambda text: "d" not in text), 200))
    assert result
    assert not result & set(known)
    assert not any("d" in text for text in result)
    runs = values(fake_with(items, max_length=4, max_overlap=(2, ["abcd"])), 100)
    assert not any(run in text for text in runs for run in ("ab", "bc", "cd"))


def test_cut_texts_are_drawn_again_unless_they_are_kept(items: LanguageModel) -> None:
    often_ends = {"max_new_tokens": 3, "logit_bias": {4: 2.0}}  # the end of an item is a token, too
    assert max(map(len, values(fake_with(items, **often_ends), 50))) == 2
    assert max(map(len, values(fake_with(items, keep_cut=True, **often_ends), 50))) == 3


def test_model_of_plain_text(shakespeare: LanguageModel) -> None:
    lines = fake_with(shakespeare, "line", stop="\n", max_new_tokens=80, min_length=5)
    assert all("\n" not in line and 5 <= len(line) < 80 for line in values(lines, 10, "line"))
    assert len(fake_with(shakespeare, max_new_tokens=12).item("ROMEO:")) == 12  # without an end, none is cut


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "two words"}, "name of a public method"),
        ({"method": "_hidden"}, "name of a public method"),
        ({"method": "class"}, "name of a public method"),
        ({"tries": 0}, "tries"),
        ({"accept": "["}, "not a regular expression"),
        ({"accept": 3}, "a regular expression or a function"),
        ({"pattern": "x"}, "x"),
        ({"temperature": -1}, "temperature"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
    ],
)
def test_invalid_arguments_are_reported_at_once(items: LanguageModel, options: dict[str, Any], says: str) -> None:
    with pytest.raises(SamplingError, match=says):
        provider(items, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 1}, "item has no argument 'seed'; use Faker.seed or fake.seed_instance"),
        ({"stop": "a"}, "item has no argument 'stop'; use knock.faker.provider, which has it"),
        ({"temprature": 1}, "item has no argument 'temprature'; did you mean temperature?"),
    ],
)
def test_arguments_that_a_method_does_not_have(items: LanguageModel, options: dict[str, Any], says: str) -> None:
    fake = fake_with(items)
    with pytest.raises(SamplingError) as raised:
        fake.item(**options)
    assert str(raised.value) == says


def test_a_prompt_is_returned_as_the_model_reads_it(items: LanguageModel) -> None:
    fake = fake_with(items, unknown="skip", pattern="a[abcd]*")
    assert all(re.fullmatch("a[abcd]*", fake.item("xa")) for _ in range(10))


def test_missing_model() -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        provider("nowhere")


def test_no_text_that_passes(items: LanguageModel) -> None:
    fake = fake_with(items, accept=lambda _: False, tries=30)
    with pytest.raises(TooFewError, match="drawn 30"):
        fake.item()


def examples() -> list[str]:
    """The two examples of the module's documentation, as programs."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", knock.faker.__doc__ or "", re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE).strip() + "\n" for block in blocks]


def test_example_of_the_documentation_runs() -> None:
    example, _ = examples()
    namespace: dict[str, Any] = {}
    exec(example, namespace)
    assert namespace["fake"].new_name(prompt="Ma").startswith("Ma")


def test_fixture_of_the_documentation_passes_in_pytest(tmp_path: Path) -> None:
    _, fixture = examples()
    (tmp_path / "test_example.py").write_text(fixture, encoding="utf-8")
    script = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_faker_that_is_not_installed_is_one_clear_error() -> None:
    code = "import sys; sys.modules['faker'] = None\nimport knock.faker"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "knock.errors.KnockError: knock.faker needs Faker, which is not installed; in a clone of knock, run: "
        "pip install '.[faker]'"
    )
