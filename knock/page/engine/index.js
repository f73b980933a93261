// The engine of the page: a model, its state, a sampler, a text. It knows no document.

export { decodeModel } from "./decode.js";
export { State } from "./state.js";
export { DEFAULTS, PRESETS } from "./controls.js";
export { Sampler } from "./sampler.js";
export { TextGenerator } from "./text.js";
