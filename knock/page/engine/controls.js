// The controls of the sampling pipeline: names, defaults and ranges of knock/sampling.py.

const SMALLEST = 1e-30;
const LARGEST = 1e30;
const HOTTEST = 1e4; // temperature
const SMALLEST_ENTROPY = 1e-6; // bits
const MOST_TOKENS = 2 ** 53;
const STRONGEST = 1e4; // nats of a penalty

/** The controls that mirostat replaces. */
export const FILTERS = ["top_k", "typical_p", "top_p", "min_p"];

/** The defaults: all of them leave the model's distribution as it is. */
export const DEFAULTS = Object.freeze({
  temperature: 1, top_k: 0, top_p: 1, min_p: 0, typical_p: 1, top_n_sigma: 0, target_entropy: null,
  entropy_rule: "exact", min_temp: 0.3, max_temp: 2, mirostat: null, mirostat_eta: 0.1, no_repeat_ngram: 0,
  dry_multiplier: 0, dry_base: 1.75, dry_allowed_length: 8, repetition_range: 0, logit_bias: Object.freeze({}),
});

/** The presets by name. */
export const PRESETS = Object.freeze({
  balanced: Object.freeze({ temperature: 0.8, top_p: 0.95 }),
  basic: Object.freeze({}),
  top_k: Object.freeze({ top_k: 40 }),
  top_p: Object.freeze({ top_p: 0.9 }),
  entropy: Object.freeze({ target_entropy: 1.5, entropy_rule: "ratio", max_temp: 1, min_p: 0.05 }),
});

const WHOLE = { top_k: 0, no_repeat_ngram: 0, dry_allowed_length: 1, repetition_range: 0 };

// Smallest and largest value; what 0 means, if it is allowed besides.
const RANGES = {
  dry_multiplier: [SMALLEST, STRONGEST, "off"],
  dry_base: [1, STRONGEST],
  temperature: [SMALLEST, HOTTEST, "greedy"],
  top_p: [SMALLEST, 1],
  typical_p: [SMALLEST, 1],
  min_p: [SMALLEST, 1, "off"],
  top_n_sigma: [SMALLEST, LARGEST, "off"],
  min_temp: [SMALLEST, HOTTEST],
  max_temp: [SMALLEST, HOTTEST],
  mirostat_eta: [SMALLEST, LARGEST],
};

/**
 * Return all controls, validated, with the bias by token.
 *
 * @param {object} options - some of the controls of `DEFAULTS`. The keys of `logit_bias` are characters or token ids; a
 *   digit is a character if the model knows it. Pass a Map to tell them apart: its numbers are token ids.
 * @param {Vocabulary} vocab
 * @returns {object} the controls, with `bias`, a Float32Array [V] or null, for `logit_bias`.
 * @throws {RangeError} if a control is unknown or out of range, or two of them exclude each other.
 */
export function checkedControls(options, vocab) {
  const unknown = Object.keys(options).filter((name) => !Object.hasOwn(DEFAULTS, name));
  if (unknown.length) {
    throw new RangeError(`unknown control ${unknown[0]}; the controls are ${Object.keys(DEFAULTS).join(", ")}`);
  }
  const controls = { ...DEFAULTS, ...options };
  for (const [name, least] of Object.entries(WHOLE)) {
    const value = controls[name];
    if (!(Number.isInteger(value) && value >= least && value <= MOST_TOKENS)) {
      throw new RangeError(`${name} must be a whole number of at least ${least}, got ${shown(value)}`);
    }
  }
  for (const [name, [low, high, zero]] of Object.entries(RANGES)) checkRange(name, controls[name], low, high, zero);
  if (controls.max_temp < controls.min_temp) {
    throw new RangeError(`max_temp must be at least min_temp (${controls.min_temp}), got ${controls.max_temp}`);
  }
  if (!["exact", "ratio"].includes(controls.entropy_rule)) {
    throw new RangeError(`entropy_rule must be one of exact, ratio, got ${shown(controls.entropy_rule)}`);
  }
  if (controls.target_entropy !== null) {
    checkRange("target_entropy", controls.target_entropy, SMALLEST_ENTROPY, LARGEST, "always min_temp");
    if (controls.temperature !== 1) {
      throw new RangeError("target_entropy sets the temperature, so temperature would be ignored; give one of them");
    }
  }
  if (controls.mirostat !== null) {
    checkRange("mirostat", controls.mirostat, SMALLEST, LARGEST);
    const others = FILTERS.filter((name) => controls[name] !== DEFAULTS[name]);
    if (others.length) throw new RangeError(`mirostat replaces ${others.join(", ")}; give one or the other`);
    if (controls.temperature === 0) throw new RangeError("mirostat needs a temperature above 0, got 0 (greedy)");
  }
  controls.bias = biasByToken(controls.logit_bias, vocab);
  return controls;
}

function checkRange(name, value, low, high, zero) {
  const fits = typeof value === "number" && ((value >= low && value <= high) || (zero !== undefined && value === 0));
  if (fits) return;
  const orZero = zero === undefined ? "" : `0 (${zero}) or `;
  const range = low === SMALLEST && !(value > 0) ? `above 0 and at most ${high}` : `from ${low} to ${high}`;
  throw new RangeError(`${name} must be ${orZero}${range}, got ${shown(value)}`);
}

/** Return a bias by token whose largest element is 0, which changes no probability; null if there is none. */
function biasByToken(biases, vocab) {
  const entries = biases instanceof Map ? [...biases] : Object.entries(biases);
  if (!entries.length) return null;
  const bias = new Float64Array(vocab.size);
  for (const [key, value] of entries) {
    if (!(typeof value === "number" && (value === -Infinity || Math.abs(value) <= LARGEST))) {
      const range = `from ${-LARGEST} to ${LARGEST}, or -Infinity (never)`;
      throw new RangeError(`logit_bias of ${shown(key)} must be ${range}, got ${shown(value)}`);
    }
    const token = typeof key === "number" ? key : (vocab.tokenOf(key) ?? (/^\d+$/.test(key) ? Number(key) : -1));
    if (!(Number.isInteger(token) && token >= 0 && token < vocab.size)) {
      throw new RangeError(`logit_bias names ${shown(key)}, which is not one of the model's characters`);
    }
    bias[token] = value;
  }
  const largest = Math.max(...bias);
  if (largest === -Infinity) throw new RangeError("logit_bias bans every token; leave at least one");
  return Float32Array.from(bias, (value) => value - largest);
}

function shown(value) {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
