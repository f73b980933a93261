"""Settings of a REPL: what its commands change, and which of them decide how a character is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from knock.choices import PRESET_NAMES
from knock.errors import SamplingError
from knock.sampling import Sampling
from knock.validation import shown, whole_number

CONTROLS = ("temperature", "top_k", "top_p", "min_p", "target_entropy", "min_temp", "max_temp", "mirostat")

_LONGEST = 10**9  # characters of a text


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the next text is made with. Immutable; checked when made.

    Every control keeps its value while another way of sampling is chosen; `unused` tells which have no effect.

    Attributes:
        length: how many characters to generate.
        sampling: `"basic"`, `"top_k"` or `"top_p"`: that filter alone; `"entropy"`: the entropy rule, then top_p.
        temperature: divides the logits; 0 always takes the most likely character.
        top_k: how many of the most likely characters are kept; 0 is off.
        top_p: how much probability the characters that are kept hold; 1 is off.
        min_p: how likely, measured against the most likely, a character must be; 0 is off.
        target_entropy: of the entropy rule, in bits.
        min_temp: lowest temperature of the entropy rule.
        max_temp: highest temperature of the entropy rule.
        mirostat: the surprise to keep near, in bits a character, in place of the filters; None is off.
        seed: of every text; None draws one for each.
        stats: whether statistics follow each text.
        heat: whether each character is shown with its surprise.

    Raises:
        SamplingError: if a setting is out of range, or two that are in use exclude each other.
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
        whole_number("length", self.length, 0, _LONGEST, error=SamplingError)
        if self.seed is not None:
            whole_number("seed", self.seed, 0, 2**64 - 1, error=SamplingError)
        if self.sampling not in PRESET_NAMES:
            raise SamplingError(f"sampling must be one of {', '.join(PRESET_NAMES)}, got {shown(self.sampling)}")
        # Those that wait for another way of sampling too; in groups, since not all of them go together.
        Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p)
        Sampling(target_entropy=self.target_entropy, min_temp=self.min_temp, max_temp=self.max_temp)
        Sampling(mirostat=self.mirostat)
        self.controls()

    def controls(self) -> Sampling:
        """The controls that are in use."""
        return Sampling(**{name: getattr(self, name) for name in CONTROLS if self.unused(name) is None})

    def unused(self, name: str) -> str | None:
        """Why a setting has no effect as the others are, and what gives it one; None if it has."""
        by_rule = self.sampling == "entropy"
        if name == "temperature" and by_rule:
            return "the entropy rule sets the temperature; /sampling basic, top_k or top_p leaves the rule"
        if name in ("target_entropy", "min_temp", "max_temp") and not by_rule:
            return "/sampling entropy uses it"
        if name == "top_k" and self.sampling != "top_k":
            return "/sampling top_k uses it"
        if name == "top_p" and self.sampling not in ("top_p", "entropy"):
            return "/sampling top_p or entropy uses it"
        if name in ("top_k", "top_p", "min_p") and self.mirostat is not None:
            return "mirostat takes the place of the filters; /mirostat off brings them back"
        if name in ("top_k", "top_p", "min_p") and self.temperature == 0 and not by_rule:
            return "temperature 0 takes the most likely character in any case; /temp X above 0 draws again"
        return None
