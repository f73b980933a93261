// Does the jobs of a test in the page, and writes their results into its <pre> as JSON in base64.

import { exp, expDouble, gelu, logDouble } from "../../knock/page/engine/arithmetic.js";
import { decodeModel, Sampler, TextGenerator } from "../../knock/page/engine/index.js";
import { SimdPass } from "../../knock/page/engine/simd.js";
import { uniform, words } from "../../knock/page/engine/philox.js";

const ARRAYS = { float32: Float32Array, float64: Float64Array, int32: Int32Array };
const FUNCTIONS = { exp, gelu, expDouble, logDouble };
const STATISTICS = ["entropy", "sampledEntropy", "confidence", "temperature", "surprise"];

const { models, jobs } = JSON.parse(document.getElementById("data").textContent, revived);
const decoded = models.map(decodeModel);

const JOBS = {
  /** Apply a function of one number to an array. */
  elementwise: ({ name, values }) => values.map(FUNCTIONS[name]),
  uniform: ({ seed, index, steps }) =>
    Float64Array.from(steps, (step) => uniform(words(BigInt(seed)), words(BigInt(index)), step)),
  /** Logits after each token, [N * V]. */
  logits: ({ model, tokens, plain }) => {
    const state = decoded[model].state({ plain });
    if (!plain && !(state.pass instanceof SimdPass)) throw new Error("WebAssembly is not used");
    const V = decoded[model].config.vocab_size;
    const out = new Float32Array(tokens.length * V);
    tokens.forEach((token, i) => out.set(state.read(token), i * V));
    return out;
  },
  /** Traces after each token. */
  trace: ({ model, tokens }) => {
    const state = decoded[model].state({ trace: true });
    return tokens.map((token) => {
      state.read(token);
      return state.trace;
    });
  },
  /** Draws from rows of logits, one after the other. */
  draws: ({ model, logits, controls, seed, index, context }) => {
    const V = decoded[model].config.vocab_size;
    const options = { seed: BigInt(seed), index: BigInt(index), context };
    const sampler = new Sampler(decoded[model], withBias(controls), options);
    return recorded(logits.length / V, (i) => sampler.step(logits.subarray(i * V, (i + 1) * V)));
  },
  stages: ({ model, logits, controls, context }) =>
    new Sampler(decoded[model], withBias(controls), { context }).stages(logits),
  text: ({ model, seed, index, controls, ...options }) => {
    const given = { ...options, seed: BigInt(seed), index: BigInt(index), controls: withBias(controls) };
    const text = new TextGenerator(decoded[model], given);
    const characters = [...text];
    return {
      text: characters.map(({ char }) => char).join(""),
      finishReason: text.finishReason,
      stopString: text.stopString,
      statistics: recorded(characters.length, (i) => characters[i]).statistics,
    };
  },
  encode: ({ model, text, unknown }) => decoded[model].vocab.encode(text, unknown),
  vocabulary: ({ model }) => decoded[model].vocab.chars,
};

/** Return the tokens and statistics of n draws. */
function recorded(n, draw) {
  const tokens = new Int32Array(n);
  const statistics = new Float64Array(n * STATISTICS.length);
  for (let i = 0; i < n; i++) {
    const step = draw(i);
    tokens[i] = step.token;
    STATISTICS.forEach((name, j) => (statistics[i * STATISTICS.length + j] = step[name]));
  }
  return { tokens, statistics };
}

/** JSON has no -Infinity, and no keys that are numbers. */
function withBias({ logit_bias: bias = {}, ...controls }) {
  const entries = Object.entries(bias).map(([token, value]) => [Number(token), value ?? -Infinity]);
  return { ...controls, logit_bias: new Map(entries) };
}

function revived(_, value) {
  if (value === null || typeof value !== "object" || !("array" in value)) return value;
  const bytes = Uint8Array.from(atob(value.data), (char) => char.charCodeAt(0));
  return new ARRAYS[value.array](bytes.buffer);
}

function written(_, value) {
  if (!ArrayBuffer.isView(value)) return value;
  const [array] = Object.entries(ARRAYS).find(([, type]) => value instanceof type);
  return { array, data: base64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)) };
}

function base64(bytes) {
  const parts = [];
  for (let i = 0; i < bytes.length; i += 4096) parts.push(String.fromCharCode(...bytes.subarray(i, i + 4096)));
  return btoa(parts.join(""));
}

function done(job) {
  try {
    return JOBS[job.kind](job);
  } catch (error) {
    return { error: error.message };
  }
}

document.querySelector("pre").textContent = base64(new TextEncoder().encode(JSON.stringify(jobs.map(done), written)));
