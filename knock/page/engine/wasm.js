// A small assembler of WebAssembly: expressions are nested arrays of bytes, in the order of the stack machine.
//
// https://webassembly.github.io/spec/core/binary/index.html

export const I32 = 0x7f;
export const F32 = 0x7d;
export const V128 = 0x7b;

const MAGIC_AND_VERSION = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** Return an instruction that takes operands from the stack. */
const op = (...code) => (...operands) => [operands, code];
/** Return an instruction on vectors of 128 bits. */
const vectorOp = (code) => op(0xfd, unsigned(code));
/** Return an instruction that reads memory at an address plus a constant. */
const loadOp = (...code) => (address, offset = 0) => [address, code, 0, unsigned(offset)];
/** Return an instruction that writes memory at an address plus a constant. */
const storeOp = (...code) => (address, value, offset = 0) => [address, value, code, 0, unsigned(offset)];

export const i32 = {
  const: (value) => [0x41, signed(value)],
  add: op(0x6a),
  sub: op(0x6b),
  gtU: op(0x4b),
  shrU: op(0x76),
  select: op(0x1b), // of two values, the first if the third is not 0
};

export const f32 = {
  const: (value) => [0x43, ...new Uint8Array(Float32Array.of(value).buffer)],
  add: op(0x92), sub: op(0x93), mul: op(0x94), div: op(0x95), sqrt: op(0x91), max: op(0x97),
  fromI32: op(0xb2),
  load: loadOp(0x2a),
  store: storeOp(0x38),
};

export const v128 = {
  load: loadOp(0xfd, 0x00),
  load16Splat: loadOp(0xfd, 0x08),
  load32Splat: loadOp(0xfd, 0x09),
  store: storeOp(0xfd, 0x0b),
  and: vectorOp(0x4e),
};

export const i16x8 = { narrowI32x4: vectorOp(0x85) };

export const i32x4 = {
  lane: (vector, i) => [vector, 0xfd, 0x1b, i],
  splat: vectorOp(0x11),
  add: vectorOp(0xae),
  shl: vectorOp(0xab),
  dotI16x8: vectorOp(0xba), // sums of two products of 16 bits
  mulLowI16x8: vectorOp(0xbc), // products of the first four elements
  mulHighI16x8: vectorOp(0xbd), // products of the last four
  fromF32x4: vectorOp(0xf8),
};

export const f32x4 = {
  lane: (vector, i) => [vector, 0xfd, 0x1f, i],
  splat: vectorOp(0x13),
  const: (value) => f32x4.splat(f32.const(value)),
  nearest: vectorOp(0x6a), abs: vectorOp(0xe0),
  add: vectorOp(0xe4), sub: vectorOp(0xe5), mul: vectorOp(0xe6), div: vectorOp(0xe7),
  min: vectorOp(0xe8), max: vectorOp(0xe9),
  fromI32x4: vectorOp(0xfa),
};

export const f64x2 = { add: vectorOp(0xf0), fromLowI32x4: vectorOp(0xfe), toF32x4: vectorOp(0x5e) };

/** Return the vector whose lanes are those of two others, of which `lanes` picks four of eight. */
export function shuffled(first, second, lanes) {
  return [first, second, 0xfd, 0x0d, lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte))];
}

/** Return a loop that runs its body `count` times, at least once; count is an i32 local, which becomes 0. */
export function repeat(count, ...body) {
  return [0x03, 0x40, body, count.set(i32.sub(count.get, i32.const(1))), count.get, 0x0d, 0x00, 0x0b];
}

/** A function being written: its parameters, its locals and its code. */
export class WasmFunction {
  /**
   * @param {string} name
   * @param {Object<string, number>} params - types by name, which become `this.p`.
   * @param {number|null} result - type.
   */
  constructor(name, params, result = null) {
    this.name = name;
    this.type = [0x60, list(Object.values(params)), list(result === null ? [] : [result])];
    this.localTypes = [];
    this.count = 0;
    this.p = Object.fromEntries(Object.keys(params).map((each) => [each, handle(this.count++)]));
    this.body = [];
  }

  /** Return a new local. */
  local(type) {
    this.localTypes.push([1, type]);
    return handle(this.count++);
  }

  /** Return n new locals. */
  locals(type, n) {
    return Array.from({ length: n }, () => this.local(type));
  }

  /** Add code. */
  write(...code) {
    this.body.push(code);
    return this;
  }

  get code() {
    const code = flat([list(this.localTypes), this.body, 0x0b]);
    return [unsigned(code.length), code];
  }
}

/** Return the binary of a module of functions that share the imported memory "env" "memory". */
export function wasmModule(functions) {
  const name = (text) => list([...text].map((char) => char.charCodeAt(0)));
  return Uint8Array.from(flat([
    MAGIC_AND_VERSION,
    section(1, list(functions.map((each) => each.type))),
    section(2, list([[name("env"), name("memory"), 0x02, 0x00, 1]])),
    section(3, list(functions.map((_, i) => unsigned(i)))),
    section(7, list(functions.map((each, i) => [name(each.name), 0x00, unsigned(i)]))),
    section(10, list(functions.map((each) => each.code))),
  ]));
}

function handle(index) {
  return {
    get: [0x20, unsigned(index)],
    set: (value) => [value, 0x21, unsigned(index)],
    /** Return code that adds a constant. */
    step: (amount) => [0x20, unsigned(index), i32.const(amount), 0x6a, 0x21, unsigned(index)],
  };
}

function section(id, content) {
  const bytes = flat(content);
  return [id, unsigned(bytes.length), bytes];
}

function list(items) {
  return [unsigned(items.length), items];
}

function flat(nested) {
  return [nested].flat(Infinity);
}

/** LEB128 */
function unsigned(value) {
  const bytes = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value];
}

function signed(value) {
  const bytes = [];
  for (; value < -64 || value > 63; value >>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value & 127];
}
