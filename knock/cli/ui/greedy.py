"""Notice for greedy sampling from an empty prompt, which can repeat one blank line for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knock.language_model import LanguageModel
    from knock.sampling import Sampling

_PROBED = 32  # characters


def blank_notice(
    model: LanguageModel, prompt: str, sampling: Sampling, *, temperature: str = "--temperature", top_k: str = "--top-k"
) -> str | None:
    """Return a notice if the model writes only blank lines from an empty prompt, because sampling is greedy.

    Args:
        model: The model.
        prompt: The prompt; only an empty one is looked at, and only if it does not begin an item.
        sampling: The controls.
        temperature: Name of the control to raise if it is 0.
        top_k: Name of the control to change if it is 1.
    """
    if prompt or model.vocab.has_boundary:
        return None
    if sampling.top_k == 1:
        remedy = f"set {top_k} to another value than 1"
    elif sampling.temperature == 0:
        remedy = f"set {temperature} above 0"
    else:
        return None
    if model.generate("", max_new_tokens=_PROBED, sampling=sampling).text.strip():
        return None
    return (
        "greedy sampling from an empty prompt gives only blank lines, because another one is always the most likely "
        f"to follow; give a prompt, or {remedy}"
    )
