"""Settings of the REPL, and which of them currently affect sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

from knock.choices import PRESET_NAMES, UNKNOWN, EntropyRule, Unknown
from knock.errors import SamplingError
from knock.generation.constraints.constraint import Constraint
from knock.sampling import Sampling
from knock.validation import shown, whole_number

CONTROLS = (
    "temperature", "top_k", "top_p", "min_p", "target_entropy", "entropy_rule", "min_temp", "max_temp", "mirostat",
    "no_repeat_ngram", "dry_multiplier",
)  # fmt: skip
CONSTRAINTS = ("pattern", "min_length", "max_length", "ban")

_MAX_LENGTH = 10**9  # characters
_CUSTOM = "custom"


@dataclass(frozen=True, kw_only=True)
class Settings:
    r"""Settings for the next text. Immutable and validated on construction.

    The controls start at those of the preset `"balanced"`. A control keeps its value while another one overrides it;
    `unused` reports such controls.

    Attributes:
        length: Number of characters to generate.
        temperature: Divides the logits; 0 always picks the most likely character.
        top_k: Number of most likely characters to keep; 0 turns it off.
        top_p: Total probability of the most likely characters to keep; 1 turns it off.
        min_p: Lowest probability to keep, relative to the most likely character; 0 turns it off.
        target_entropy: Target of the entropy rule, in bits; replaces the temperature. None turns it off.
        entropy_rule: The entropy rule, `"exact"` or `"ratio"`.
        min_temp: Lowest temperature of the entropy rule.
        max_temp: Highest temperature of the entropy rule.
        mirostat: Target surprise in bits per character; replaces the filters. None turns it off.
        no_repeat_ngram: Length of the runs of characters that are never repeated; 0 turns it off.
        dry_multiplier: Strength of the DRY penalty of repetitions; 0 turns it off.
        pattern: Regular expression that a text must match as a whole; None turns it off.
        min_length: Fewest characters of a text.
        max_length: Most characters of a text; a model of items ends its item by then. None turns it off.
        ban: Strings that a text must not contain.
        seed: Seed of every text; if None, each text gets a random seed.
        unknown: How to handle characters of a prompt that the model does not know.
        escapes: Whether `\n`, `\t` and `\\` are escapes in prompts.
        stats: Whether a box of statistics follows each text.
        heat: Whether the surprise of each character is shown.

    Raises:
        SamplingError: if a setting is out of range, or two active settings exclude each other.
    """

    length: int = 300
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    target_entropy: float | None = None
    entropy_rule: EntropyRule = "exact"
    min_temp: float = 0.3
    max_temp: float = 2.0
    mirostat: float | None = None
    no_repeat_ngram: int = 0
    dry_multiplier: float = 0.0
    pattern: str | None = None
    min_length: int = 0
    max_length: int | None = None
    ban: tuple[str, ...] = ()
    seed: int | None = None
    unknown: Unknown = "error"
    escapes: bool = False
    stats: bool = True
    heat: bool = False

    def __post_init__(self) -> None:
        whole_number("length", self.length, 0, _MAX_LENGTH, error=SamplingError)
        whole_number("min_length", self.min_length, 0, _MAX_LENGTH, error=SamplingError)
        if self.seed is not None:
            whole_number("seed", self.seed, 0, 2**64 - 1, error=SamplingError)
        if self.unknown not in UNKNOWN:
            raise SamplingError(f"unknown must be one of {', '.join(UNKNOWN)}, got {shown(self.unknown)}")
        # Also validate the controls that are not in use; in groups, because some exclude each other.
        Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p)
        Sampling(
            target_entropy=self.target_entropy,
            entropy_rule=self.entropy_rule,
            min_temp=self.min_temp,
            max_temp=self.max_temp,
        )
        Sampling(mirostat=self.mirostat)
        self.controls()
        _ = self.constraint

    def controls(self) -> Sampling:
        """Return the controls that are in use."""
        return Sampling(**{name: getattr(self, name) for name in CONTROLS if self.unused(name) is None})

    @property
    def constraint(self) -> Constraint:
        """What texts must match."""
        return Constraint(**{name: getattr(self, name) for name in CONSTRAINTS})

    @property
    def preset(self) -> str:
        """Name of the preset that the controls in use are equal to, or `"custom"`."""
        controls = self.controls()
        return next((name for name in PRESET_NAMES if Sampling.preset(name) == controls), _CUSTOM)

    def with_preset(self, name: str) -> Settings:
        """Return settings with every control at its value in a preset.

        Raises:
            SamplingError: if the preset is unknown.
        """
        if name not in PRESET_NAMES:
            raise SamplingError(f"sampling must be one of {', '.join(PRESET_NAMES)}, got {shown(name)}")
        preset = Sampling.preset(name)
        return replace(self, **{control: getattr(preset, control) for control in CONTROLS})

    def unused(self, name: str, *, has_items: bool = False) -> str | None:
        """Return why a setting currently has no effect and how to change that, or None if it has an effect.

        Args:
            name: Name of the setting.
            has_items: Whether texts end by themselves, because the model is one of items.
        """
        by_rule = self.target_entropy is not None
        if name == "temperature" and by_rule:
            return "the entropy rule sets the temperature; /entropy off restores it"
        if name in ("entropy_rule", "min_temp", "max_temp") and not by_rule:
            return "the entropy rule is off; /entropy turns it on"
        if name in ("top_k", "top_p", "min_p") and self.mirostat is not None:
            return "mirostat replaces the filters; /mirostat off restores them"
        if name in ("top_k", "top_p", "min_p") and self.temperature == 0 and not by_rule:
            return "temperature 0 always picks the most likely character; set /temp above 0 to sample"
        if name == "min_length" and self.min_length and self.pattern is None and not has_items:
            return "texts of this model end only after /len characters; /pattern lets them end earlier"
        if name == "max_length" and self.max_length is not None and self.max_length >= self.length and not has_items:
            return f"texts end after {self.length:,} characters; /len allows more"
        return None
