// An adapter in JavaScript, without any package: gmm-np conformance --command "node mixture.js"
// One JSON object a line comes in, one goes out. docs/conformance.md has the protocol.
"use strict";

const SPECIAL = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };

/** Numbers in nested lists; strings stand for what JSON has no numbers for. */
function read(value) {
  if (Array.isArray(value)) return value.map(read);
  return typeof value === "string" ? SPECIAL[value] : value;
}

function write(value) {
  if (Array.isArray(value)) return value.map(write);
  return Number.isFinite(value) ? value : String(value);
}

const finite = (value) => (Array.isArray(value) ? value.every(finite) : Number.isFinite(value));

/** Throw unless the arguments are those of a mixture. */
function check(x, logits, means, chol, weights) {
  const K = means.length;
  const D = K > 0 ? means[0].length : 0;
  if (K === 0 || D === 0 || x.length === 0) throw new Error("x or means is empty");
  const rows = (matrix, n) => Array.isArray(matrix) && matrix.every((row) => row.length === n);
  if (logits.length !== K || chol.length !== K) throw new Error("K differs");
  if (!rows(x, D) || !rows(means, D)) throw new Error("D differs");
  if (!chol.every((L) => L.length === D && rows(L, D))) throw new Error("chol is not K x D x D");
  if (!finite(x) || !finite(means) || !finite(chol)) throw new Error("values are not finite");
  if (logits.some((a) => Number.isNaN(a) || a === Infinity)) throw new Error("a logit is NaN");
  if (logits.every((a) => a === -Infinity)) throw new Error("every component is off");
  for (const L of chol)
    for (let i = 0; i < D; i++) {
      if (!(L[i][i] > 0)) throw new Error("the diagonal of a factor is not positive");
      for (let j = i + 1; j < D; j++) if (L[i][j] !== 0) throw new Error("chol is not lower");
    }
  if (weights.length !== x.length || weights.some((w) => !(w >= 0 && w < Infinity)))
    throw new Error("weights must be N numbers from 0");
  if (!weights.some((w) => w > 0)) throw new Error("every weight is zero");
}

/** A sum that carries what rounding loses (Neumaier). */
class Sum {
  constructor() {
    this.total = 0;
    this.lost = 0;
  }
  add(term) {
    const next = this.total + term;
    const big = Math.abs(this.total) >= Math.abs(term);
    const lost = big ? this.total - next + term : term - next + this.total;
    if (Number.isFinite(lost)) this.lost += lost;
    this.total = next;
  }
  get value() {
    return this.total + this.lost;
  }
}

/** log of the sum of exponentials, and the softmax. */
function logSumExp(terms) {
  const largest = Math.max(...terms);
  const first = terms.indexOf(largest);
  const exponentials = terms.map((t) => Math.exp(t - largest));
  let others = 0;
  exponentials.forEach((e, k) => (others += k === first ? 0 : e));
  return [largest + Math.log1p(others), exponentials.map((e) => e / (1 + others))];
}

function valueAndGradient({ x, logits, means, chol, weights, reduction }) {
  weights = weights || x.map(() => 1);
  check(x, logits, means, chol, weights);
  const K = means.length;
  const D = means[0].length;
  const largest = Math.max(...logits);
  const shifted = logits.map((a) => a - largest);
  const [logTotal, pi] = logSumExp(shifted);
  const constant = chol.map((L, k) => {
    const halfLogDet = new Sum();
    for (let i = 0; i < D; i++) halfLogDet.add(Math.log(L[i][i]));
    return shifted[k] - logTotal - halfLogDet.value - 0.5 * D * Math.log(2 * Math.PI);
  });
  const sums = (...shape) =>
    shape.length ? Array.from({ length: shape[0] }, () => sums(...shape.slice(1))) : new Sum();
  const [loss, W, mass, dMeans, dChol] = [sums(), sums(), sums(K), sums(K, D), sums(K, D, D)];
  x.forEach((row, n) => {
    const w = weights[n];
    W.add(w);
    if (w === 0) return; // a dropped row, even where its likelihood is zero
    const white = chol.map((L, k) => {
      const z = [];
      for (let i = 0; i < D; i++) {
        let rest = row[i] - means[k][i];
        for (let j = 0; j < i; j++) rest -= L[i][j] * z[j];
        z.push(rest / L[i][i]);
      }
      return z; // L z = x - mu
    });
    const terms = white.map((z, k) => constant[k] - 0.5 * z.reduce((sum, v) => sum + v * v, 0));
    const [logLikelihood, resp] = logSumExp(terms);
    loss.add(-w * logLikelihood);
    for (let k = 0; k < K; k++) {
      const r = w * resp[k];
      mass[k].add(r);
      if (r === 0) continue;
      const [L, z] = [chol[k], white[k]];
      const pull = new Array(D);
      for (let i = D - 1; i >= 0; i--) {
        let rest = z[i];
        for (let j = i + 1; j < D; j++) rest -= L[j][i] * pull[j];
        pull[i] = rest / L[i][i]; // L^T pull = z
        dMeans[k][i].add(-r * pull[i]);
        for (let j = 0; j <= i; j++) dChol[k][i][j].add(-r * pull[i] * z[j]);
      }
    }
  });
  const over = reduction === "mean" ? W.value : 1;
  const total = new Sum();
  mass.forEach((m) => total.add(m.value));
  for (let k = 0; k < K; k++)
    for (let i = 0; i < D; i++) dChol[k][i][i].add(mass[k].value / chol[k][i][i]);
  const finish = (sum) => (Array.isArray(sum) ? sum.map(finish) : sum.value / over);
  return {
    nll: finish(loss),
    logits: mass.map((m, k) => (pi[k] * total.value - m.value) / over),
    means: finish(dMeans),
    chol: finish(dChol),
  };
}

function reply(message) {
  if (message.kind === "start") return { tool: `JavaScript, Node ${process.version}` };
  if (message.kind === "define") return { success: message.module === "cholesky" };
  const input = message.input;
  for (const name of Object.keys(input)) {
    if (name !== "reduction" && name !== "dtype") input[name] = read(input[name]);
  }
  try {
    const output = valueAndGradient(input);
    for (const name of Object.keys(output)) output[name] = write(output[name]);
    return { success: true, output };
  } catch (error) {
    return { success: false, status: "rejected", error: error.message };
  }
}

require("readline")
  .createInterface({ input: process.stdin, crlfDelay: Infinity })
  .on("line", (line) => {
    const message = JSON.parse(line);
    process.stdout.write(JSON.stringify({ id: message.id, ...reply(message) }) + "\n");
  });
