from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knock.errors import SamplingError
from knock.generation.stopping import StopStrings

TEXT = st.text("ab", max_size=20)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


def character_by_character(text: str, stops: list[str]) -> tuple[str, bool]:
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@given(TEXT, STOPS, st.lists(st.integers(0, 20)))
def test_result_does_not_depend_on_the_pieces(text: str, stops: list[str], cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    watch = StopStrings(stops)
    out = "".join(watch.feed(text[a:b]) for a, b in pairwise(edges))
    if not watch.found:
        out += watch.flush()
    assert (out, watch.found is not None) == character_by_character(text, stops)
    if watch.found is not None:
        assert watch.found in stops
        assert text.startswith(out + watch.found)


@given(TEXT, STOPS)
def test_possible_stop_strings_are_held_back(text: str, stops: list[str]) -> None:
    for end in range(len(text) + 1):
        shown = StopStrings(stops).feed(text[:end])
        for rest in ("", *stops):
            assert character_by_character(text[:end] + rest, stops)[0].startswith(shown)


def test_first_completed_stop_string_ends_the_text() -> None:
    watch = StopStrings(["ab", "aaba"])
    assert watch.feed("aaba") == "a"
    assert watch.found == "ab"
    watch = StopStrings(["b", "aab"])
    assert watch.feed("caab") == "c"
    assert watch.found == "aab"


def test_holds_back_no_more_than_necessary() -> None:
    watch = StopStrings("\n\n")
    assert watch.feed("one\n") == "one"
    assert watch.feed("two") == "\ntwo"
    assert watch.feed("\n\nthree") == ""
    assert watch.found
    assert watch.feed("four") == ""


@pytest.mark.parametrize("stop", ["", ["a", ""], [3], 5])
def test_empty_stop_string_is_rejected(stop: object) -> None:
    with pytest.raises(SamplingError, match="stop"):
        StopStrings(stop)
