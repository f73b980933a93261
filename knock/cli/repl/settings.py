"""Settings of the REPL, and which of them currently affect sampling."""

from __future__ import annotations

from dataclasses import dataclass

from knock.choices import PRESET_NAMES
from knock.errors import SamplingError
from knock.sampling import Sampling
from knock.validation import shown, whole_number

CONTROLS = ("temperature", "top_k", "top_p", "min_p", "target_entropy", "min_temp", "max_temp", "mirostat")

_MAX_LENGTH = 10**9  # characters


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings for the next text. Immutable and validated on construction.

    A control keeps its value while the chosen sampling method does not use it; `unused` reports such controls.

    Attributes:
        length: Number of characters to generate.
        sampling: `"basic"` for no filter, `"top_k"` or `"top_p"` for that filter, `"entropy"` for the entropy rule
            followed by top_p.
        temperature: Divides the logits; 0 always picks the most likely character.
        top_k: Number of most likely characters to keep; 0 turns it off.
        top_p: Total probability of the most likely characters to keep; 1 turns it off.
        min_p: Lowest probability to keep, relative to the most likely character; 0 turns it off.
        target_entropy: Target of the entropy rule, in bits.
        min_temp: Lowest temperature of the entropy rule.
        max_temp: Highest temperature of the entropy rule.
        mirostat: Target surprise in bits per character; replaces the filters. None turns it off.
        seed: Seed of every text; if None, each text gets a random seed.
        stats: Whether statistics follow each text.
        heat: Whether the surprise of each character is shown.

    Raises:
        SamplingError: if a setting is out of range, or two active settings exclude each other.
    """

    length: int = 300
    sampling: str = "basic"
    temperature: float = 1.0
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    target_entropy: float = 2.0
    min_temp: float = 0.3
    max_temp: float = 2.0
    mirostat: float | None = None
    seed: int | None = None
    stats: bool = True
    heat: bool = False

    def __post_init__(self) -> None:
        whole_number("length", self.length, 0, _MAX_LENGTH, error=SamplingError)
        if self.seed is not None:
            whole_number("seed", self.seed, 0, 2**64 - 1, error=SamplingError)
        if self.sampling not in PRESET_NAMES:
            raise SamplingError(f"sampling must be one of {', '.join(PRESET_NAMES)}, got {shown(self.sampling)}")
        # Also validate the controls that are not in use; in groups, because some exclude each other.
        Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p)
        Sampling(target_entropy=self.target_entropy, min_temp=self.min_temp, max_temp=self.max_temp)
        Sampling(mirostat=self.mirostat)
        self.controls()

    def controls(self) -> Sampling:
        """Return the controls that are in use."""
        return Sampling(**{name: getattr(self, name) for name in CONTROLS if self.unused(name) is None})

    def unused(self, name: str) -> str | None:
        """Return why a setting currently has no effect and how to change that, or None if it has an effect."""
        by_rule = self.sampling == "entropy"
        if name == "temperature" and by_rule:
            return "the entropy rule sets the temperature; choose /sampling basic, top_k or top_p to set it yourself"
        if name in ("target_entropy", "min_temp", "max_temp") and not by_rule:
            return "only /sampling entropy uses it"
        if name == "top_k" and self.sampling != "top_k":
            return "only /sampling top_k uses it"
        if name == "top_p" and self.sampling not in ("top_p", "entropy"):
            return "only /sampling top_p and entropy use it"
        if name in ("top_k", "top_p", "min_p") and self.mirostat is not None:
            return "mirostat replaces the filters; /mirostat off restores them"
        if name in ("top_k", "top_p", "min_p") and self.temperature == 0 and not by_rule:
            return "temperature 0 always picks the most likely character; set /temp above 0 to sample"
        return None
