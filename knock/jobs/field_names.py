"""Names of the fields of prompts: those that knock reads, and what other fields, which rows keep, may be called."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import fields

from knock.errors import PromptError
from knock.hints import COUNTS, LENGTHS, STOPS
from knock.jobs.rows import ROW_FIELDS
from knock.sampling import Sampling
from knock.validation import shown

CONTROLS = tuple(field.name for field in fields(Sampling))
FIELDS = ("prompt", "max_new_tokens", "stop", "sampling", *CONTROLS)

_MEANT = {
    **dict.fromkeys(LENGTHS, "write max_new_tokens."),
    **dict.fromkeys(COUNTS, "give the number of texts per prompt with --count, or with n= in Python."),
    **dict.fromkeys(STOPS, "write stop."),
    "temp": "write temperature.",
}
_CUTOFF = 0.86  # similarity to a field, from 0 to 1, above which a name is a misspelling: promt, topk, temprature
_PLAIN = str.maketrans("", "", "_- ")
_BY_PLAIN = {name.translate(_PLAIN): name for name in FIELDS}


def check_extra(names: Iterable[str], what: str = "field") -> None:
    """Reject names of other fields that are probably meant for knock, or that it writes itself.

    Args:
        names: the names, none of them in `FIELDS`.
        what: what has the names: a field or a column.

    Raises:
        PromptError: if a name is rejected.
    """
    for name in names:
        if name in ROW_FIELDS:
            hint = ", or give the seed with --seed, or with seed= in Python" if name == "seed" else ""
            raise PromptError(f"{what} {shown(name)} is one that knock writes into the rows; rename or remove it{hint}")
        if hint := _MEANT.get(name) or _correction(name):
            raise PromptError(f"unknown {what} {shown(name)}; {hint} To carry it into the rows, rename it")


def _correction(name: str) -> str:
    if any(name.startswith(f"{known}_") or name.endswith(f"_{known}") for known in FIELDS):
        return ""  # a name of its own, such as prompt_id
    close = difflib.get_close_matches(name.lower().translate(_PLAIN), _BY_PLAIN, 1, _CUTOFF)
    return f"did you mean {_BY_PLAIN[close[0]]}?" if close else ""
