// The forward pass on vectors of 128 bits, in WebAssembly, to the bits of plain.js.
//
// Vectors are single IEEE operations on float32 numbers, exact sums on integers. Pointers are byte addresses. Arrays
// are padded to whole vectors: with zeros, or as the function says.

import { F32, I32, V128, WasmFunction, f32, f32x4, f64x2, i16x8, i32, i32x4, repeat, shuffled, v128 } from "./wasm.js";

const E1 = 0.6931469776120429;
const E2 = 0.24022242145477116;
const E3 = 0.05550733776473714;
const E4 = 0.009671508809354482;
const E5 = 0.0013264698743105238;

/** Columns of a panel of a product, and numbers that a row is padded to. */
export const PANEL_COLUMNS = 16;
/** Attention weights whose products with values fit in 32 bits together. */
export const STRETCH = 64;

/** Return code for e**x of a vector; t, r, square are locals. */
function expOf(x, [t, r, square]) {
  const n = f32x4.nearest(t.get);
  const linear = (a, b) => f32x4.add(f32x4.mul(f32x4.const(a), r.get), f32x4.const(b));
  const p = f32x4.add(
    f32x4.mul(f32x4.add(f32x4.mul(linear(E5, E4), square.get), linear(E3, E2)), square.get), linear(E1, 1));
  return [
    t.set(f32x4.mul(f32x4.max(x, f32x4.const(-87)), f32x4.const(1.4426950408889634))),
    r.set(f32x4.sub(t.get, n)),
    square.set(f32x4.mul(r.get, r.get)),
    i32x4.add(p, i32x4.shl(i32x4.fromF32x4(n), i32.const(23))),
  ];
}

/** Return code for the sum of 16 partial sums in four vectors, by halves; sum is a local. */
function sumByHalves([a, b, c, d], sum) {
  const lane = (i) => f32x4.lane(sum.get, i);
  return [
    sum.set(f32x4.add(f32x4.add(a.get, c.get), f32x4.add(b.get, d.get))),
    f32.add(f32.add(lane(0), lane(2)), f32.add(lane(1), lane(3))),
  ];
}

/** Return code that writes a vector of whole float32 numbers and the next as 8 codes of 16 bits. */
function storeCodes(address, low, high, offset = 0) {
  const code = (x) => i32x4.fromF32x4(f32x4.nearest(x));
  return v128.store(address, i16x8.narrowI32x4(code(low), code(high)), offset);
}

/**
 * normalize(x, mask, row, groups, width, normScale): write the codes of a normalised row.
 *
 * x, mask: float32 [16 * groups], the mask all bits where x has an element; row: int16.
 */
function normalize() {
  const f = new WasmFunction("normalize", { x: I32, mask: I32, row: I32, groups: I32, width: F32, normScale: F32 });
  const { x, mask, row, groups, width, normScale } = f.p;
  const sums = f.locals(V128, 4);
  const [sum, mean, scale, deviation] = f.locals(V128, 4);
  const [count, at, masked] = f.locals(I32, 3);
  const variance = f.local(F32);
  const zeros = sums.map((each) => each.set(f32x4.const(0)));
  const restart = [count.set(groups.get), at.set(x.get), masked.set(mask.get), zeros];
  const centred = (i) => v128.and(f32x4.sub(v128.load(at.get, 16 * i), mean.get), v128.load(masked.get, 16 * i));
  const coded = (i) => f32x4.mul(centred(i), scale.get);
  const next = [at.step(64), masked.step(64)];
  return f.write(
    restart,
    repeat(count, sums.map((each, i) => each.set(f32x4.add(each.get, v128.load(at.get, 16 * i)))), next),
    mean.set(f32x4.splat(f32.div(sumByHalves(sums, sum), width.get))),
    restart,
    repeat(
      count,
      sums.map((each, i) => [
        deviation.set(centred(i)),
        each.set(f32x4.add(each.get, f32x4.mul(deviation.get, deviation.get))),
      ]),
      next,
    ),
    variance.set(f32.div(sumByHalves(sums, sum), width.get)),
    scale.set(f32x4.splat(
      f32.mul(f32.div(f32.const(1), f32.sqrt(f32.add(variance.get, f32.const(1e-5)))), normScale.get))),
    restart,
    repeat(
      count, storeCodes(row.get, coded(0), coded(1)), storeCodes(row.get, coded(2), coded(3), 16), next, row.step(32),
    ),
  );
}

/**
 * product(row, codes, pairs, panels, factor, bias, step, out): bias + float(row @ codes) * factor * step.
 *
 * row: int16 [2 * pairs]; codes: int16 [panels, pairs, 16 columns, 2 rows]; factor, bias, out: float32 [16 * panels].
 */
function product() {
  const f = new WasmFunction("product", {
    row: I32, codes: I32, pairs: I32, panels: I32, factor: I32, bias: I32, step: F32, out: I32,
  });
  const { row, codes, pairs, panels, factor, bias, step, out } = f.p;
  const sums = f.locals(V128, 4);
  const two = f.local(V128);
  const [count, at] = f.locals(I32, 2);
  return f.write(repeat(
    panels,
    count.set(pairs.get),
    at.set(row.get),
    sums.map((each) => each.set(i32x4.splat(i32.const(0)))),
    repeat(
      count,
      two.set(v128.load32Splat(at.get)),
      sums.map((each, i) => each.set(i32x4.add(each.get, i32x4.dotI16x8(two.get, v128.load(codes.get, 16 * i))))),
      at.step(4),
      codes.step(64),
    ),
    sums.map((each, i) => v128.store(
      out.get,
      f32x4.add(
        v128.load(bias.get, 16 * i),
        f32x4.mul(f32x4.mul(f32x4.fromI32x4(each.get), v128.load(factor.get, 16 * i)), f32x4.splat(step.get)),
      ),
      16 * i,
    )),
    [factor, bias, out].map((each) => each.step(64)),
  ));
}

/** toCodes(values, row, groups): round float32 [8 * groups] to int16. */
function toCodes() {
  const f = new WasmFunction("toCodes", { values: I32, row: I32, groups: I32 });
  const { values, row, groups } = f.p;
  return f.write(repeat(
    groups, storeCodes(row.get, v128.load(values.get), v128.load(values.get, 16)), values.step(32), row.step(16),
  ));
}

/** activate(hidden, row, groups, most): write the codes of GELU(hidden), float32 [8 * groups]; return their step. */
function activate() {
  const f = new WasmFunction("activate", { hidden: I32, row: I32, groups: I32, most: F32 }, F32);
  const { hidden, row, groups, most } = f.p;
  const temporary = f.locals(V128, 3);
  const [x, argument, largest, scale] = f.locals(V128, 4);
  const [count, at] = f.locals(I32, 2);
  const extreme = f.local(F32);
  const lane = (i) => f32x4.lane(largest.get, i);
  const cube = f32x4.mul(f32x4.mul(f32x4.mul(f32x4.const(0.044715), x.get), x.get), x.get);
  const gelu = (offset) => [
    x.set(v128.load(at.get, offset)),
    argument.set(f32x4.min(
      f32x4.mul(f32x4.const(-2 * 0.7978845608028654), f32x4.add(x.get, cube)), f32x4.const(88))),
    x.set(f32x4.div(x.get, f32x4.add(f32x4.const(1), expOf(argument.get, temporary)))),
    largest.set(f32x4.max(largest.get, f32x4.abs(x.get))),
    v128.store(at.get, x.get, offset),
  ];
  const scaled = (offset) => f32x4.mul(v128.load(at.get, offset), scale.get);
  return f.write(
    count.set(groups.get),
    at.set(hidden.get),
    largest.set(f32x4.const(0)),
    repeat(count, gelu(0), gelu(16), at.step(32)),
    extreme.set(f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3)))),
    scale.set(f32x4.splat(f32.div(most.get, f32.max(extreme.get, f32.const(2 ** -100))))),
    count.set(groups.get),
    at.set(hidden.get),
    repeat(count, storeCodes(row.get, scaled(0), scaled(16)), at.step(32), row.step(16)),
    f32.div(extreme.get, most.get),
  );
}

/**
 * compare(query, key, stride, groups, seen, factor, z): add float(query . key) * factor to z, for keys back from `key`.
 *
 * query: int16 [8 * groups]; keys: int16, `stride` bytes apart; z: float32 [seen].
 */
function compare() {
  const f = new WasmFunction("compare", {
    query: I32, key: I32, stride: I32, groups: I32, seen: I32, factor: F32, z: I32,
  });
  const { query, key, stride, groups, seen, factor, z } = f.p;
  const sum = f.local(V128);
  const [count, a, b] = f.locals(I32, 3);
  const lane = (i) => i32x4.lane(sum.get, i);
  return f.write(repeat(
    seen,
    count.set(groups.get),
    a.set(query.get),
    b.set(key.get),
    sum.set(i32x4.splat(i32.const(0))),
    repeat(
      count,
      sum.set(i32x4.add(sum.get, i32x4.dotI16x8(v128.load(a.get), v128.load(b.get)))),
      a.step(16),
      b.step(16),
    ),
    f32.store(
      z.get,
      f32.add(
        f32.mul(f32.fromI32(i32.add(i32.add(lane(0), lane(1)), i32.add(lane(2), lane(3)))), factor.get),
        f32.load(z.get),
      ),
    ),
    z.step(4),
    key.set(i32.sub(key.get, stride.get)),
  ));
}

/**
 * weigh(z, weights, groups): write the codes of softmax(z); return their sum as a float32.
 *
 * z: float32 [8 * groups], padded with -infinity; weights: int16.
 */
function weigh() {
  const f = new WasmFunction("weigh", { z: I32, weights: I32, groups: I32 }, F32);
  const { z, weights, groups } = f.p;
  const temporary = f.locals(V128, 3);
  const [top, sum, low, high] = f.locals(V128, 4);
  const [count, at] = f.locals(I32, 2);
  const lane = (i) => f32x4.lane(top.get, i);
  const whole = (i) => i32x4.lane(sum.get, i);
  const coded = (offset) => i32x4.fromF32x4(f32x4.nearest(
    f32x4.mul(expOf(f32x4.sub(v128.load(at.get, offset), top.get), temporary), f32x4.const(8191))));
  return f.write(
    count.set(groups.get),
    at.set(z.get),
    top.set(f32x4.const(-Infinity)),
    repeat(
      count, top.set(f32x4.max(top.get, f32x4.max(v128.load(at.get), v128.load(at.get, 16)))), at.step(32),
    ),
    top.set(f32x4.splat(f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3))))),
    count.set(groups.get),
    at.set(z.get),
    repeat(
      count,
      low.set(coded(0)),
      high.set(coded(16)),
      sum.set(i32x4.add(sum.get, i32x4.add(low.get, high.get))),
      v128.store(weights.get, i16x8.narrowI32x4(low.get, high.get)),
      at.step(32),
      weights.step(16),
    ),
    f32.fromI32(i32.add(i32.add(whole(0), whole(1)), i32.add(whole(2), whole(3)))),
  );
}

/**
 * attend(weights, value, stride, groups, seen, factor, out): float(weights @ values) * factor, for values back from
 * `value`.
 *
 * weights: int16 [seen]; values: int16 [8 * groups], `stride` bytes apart; out: float32 [8 * groups].
 */
function attend() {
  const f = new WasmFunction("attend", {
    weights: I32, value: I32, stride: I32, groups: I32, seen: I32, factor: F32, out: I32,
  });
  const { weights, value, stride, groups, seen, factor, out } = f.p;
  const [weight, low, high, values] = f.locals(V128, 4);
  const totals = f.locals(V128, 4);
  const [stretches, left, count, w, v] = f.locals(I32, 5);
  const upper = (each) => shuffled(each, each, [2, 3, 0, 1]);
  const halves = [low.get, upper(low.get), high.get, upper(high.get)];
  const floats = (i) => shuffled(f64x2.toF32x4(totals[i].get), f64x2.toF32x4(totals[i + 1].get), [0, 1, 4, 5]);
  const scaled = (i) => f32x4.mul(floats(i), f32x4.splat(factor.get));
  return f.write(repeat(
    groups,
    stretches.set(i32.shrU(i32.add(seen.get, i32.const(STRETCH - 1)), i32.const(6))),
    left.set(seen.get),
    w.set(weights.get),
    v.set(value.get),
    totals.map((each) => each.set(f32x4.const(0))),
    repeat(
      stretches,
      count.set(i32.select(i32.const(STRETCH), left.get, i32.gtU(left.get, i32.const(STRETCH)))),
      left.set(i32.sub(left.get, count.get)),
      [low, high].map((each) => each.set(f32x4.const(0))),
      repeat(
        count,
        weight.set(v128.load16Splat(w.get)),
        values.set(v128.load(v.get)),
        low.set(i32x4.add(low.get, i32x4.mulLowI16x8(weight.get, values.get))),
        high.set(i32x4.add(high.get, i32x4.mulHighI16x8(weight.get, values.get))),
        w.step(2),
        v.set(i32.sub(v.get, stride.get)),
      ),
      totals.map((each, i) => each.set(f64x2.add(each.get, f64x2.fromLowI32x4(halves[i])))),
    ),
    v128.store(out.get, scaled(0)),
    v128.store(out.get, scaled(2), 16),
    value.step(16),
    out.step(32),
  ));
}

/** The functions of the module. */
export const KERNELS = [normalize(), product(), toCodes(), activate(), compare(), weigh(), attend()];
