"""TextOptions: the controls and the constraints of a text, as keyword arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

from knock.sampling import SamplingOptions

if TYPE_CHECKING:
    from knock.generation.constraints.constraint import Constraint


class ConstraintOptions(TypedDict, total=False):
    """The fields of `Constraint` as keyword arguments."""

    pattern: str | re.Pattern[str] | None
    min_length: int
    max_length: int | None
    ban: str | Iterable[str]
    keep_stop: bool
    exact: bool


class TextOptions(SamplingOptions, ConstraintOptions, total=False):
    """The controls of sampling and the constraints on a text, as keyword arguments."""


_CONSTRAINTS = frozenset(ConstraintOptions.__annotations__)


def split(options: Mapping[str, Any]) -> tuple[SamplingOptions, Constraint | None]:
    """Split keyword arguments into those of `Sampling` and the constraint, None if they ask for nothing.

    Raises:
        SamplingError: if a field of the constraint is out of range.
    """
    own = {name: value for name, value in options.items() if name in _CONSTRAINTS}
    rest = {name: value for name, value in options.items() if name not in _CONSTRAINTS}
    if not own:
        return cast(SamplingOptions, rest), None
    from knock.generation.constraints.constraint import NO_CONSTRAINT, Constraint  # few texts have one

    constraint = Constraint(**own)
    return cast(SamplingOptions, rest), None if constraint == NO_CONSTRAINT else constraint
