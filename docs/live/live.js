// The page: what is shown, and what its buttons do. Numbers come from live.py, in the worker.

import { Plot, marker, number } from "./plot.js";
import { Python, Stopped } from "./python.js";

const PATIENCE = 10; // seconds that a learner's function may take
const $ = (id) => document.getElementById(id);
const CHANGES = {
  gradient: "The value is right, a gradient is not",
  value: "The value is wrong",
  nothing: "Nothing to see at the first mixture",
};

const state = {
  data: "clusters",
  seed: 0,
  parameters: undefined, // {pi_logits, means, scale}
  found: undefined, // what live.py said of them
  trace: [], // of losses, at the start and after each step
  undo: [],
  gesture: undefined,
  checked: undefined, // what was checked by differences: {mistake, parameters}
};
let page; // what live.py says once: data sets, versions, exercises

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function say(text) {
  $("said").textContent = text;
}

function complain(error) {
  if (!(error instanceof Stopped)) say(error.message);
}

// --- Python ---------------------------------------------------------------------------------------

const began = performance.now();
const clock = setInterval(() => {
  $("seconds").textContent = `${Math.round((performance.now() - began) / 1000)} s`;
}, 1000);

const python = new Python(({ stage, stages, text, failed, ready }) => {
  if (failed) {
    clearInterval(clock);
    $("loading").classList.add("failed");
    $("stage").textContent = `That failed: ${failed}`;
    say($("stage").textContent);
  } else if (ready) {
    begin().catch((error) => {
      $("stage").textContent = `That failed: ${error.message}`;
    });
  } else {
    $("progress").max = stages;
    $("progress").value = stage - 0.5;
    $("stage").textContent = `${stage} of ${stages}: ${text}`;
  }
});

async function begin() {
  if (page) {
    setBusy(false);
    say("Python is there again.");
    return;
  }
  page = await python.ask("describe_page");
  const first = await python.ask("start", state.data, Number($("count").value), state.seed);
  $("loading").hidden = true;
  $("workbench").hidden = false;
  $("rest").hidden = false;
  $("after").append($("reading"));
  clearInterval(clock);
  const options = Object.entries(page.data).map(([name, { title }]) => element("option", { value: name }, title));
  $("data").replaceChildren(...options);
  const { versions } = page;
  $("versions").textContent = Object.entries(versions).map((pair) => pair.join(" ")).join(", ");
  await restart(first);
  page.exercises = await python.ask("exercises");
  showExercises();
  setBusy(false);
  document.body.dataset.ready = "";
}

// Not by `disabled`, which would take the focus from whoever steps by the keyboard.
let working = 1; // pieces of work that are under way; the first is to load Python
function setBusy(more) {
  working += more ? 1 : -1;
  for (const button of document.querySelectorAll("button[data-python]")) {
    button.setAttribute("aria-disabled", working > 0);
  }
}

function onClick(id, act) {
  $(id).addEventListener("click", () => {
    if ($(id).getAttribute("aria-disabled") !== "true") act();
  });
}

function showUndo() {
  $("undo").setAttribute("aria-disabled", state.undo.length === 0);
}

// --- the mixture ----------------------------------------------------------------------------------

const plot = new Plot($("plot"), (k, { mean, factor }, gesture) => {
  remember(`plot ${k} ${gesture}`);
  plot.glide(false);
  const { pi_logits, means, scale } = state.parameters;
  set({ pi_logits, means: means.with(k, mean), scale: scale.with(k, factor) });
});

/** Keep what is there for Undo, once for each gesture. */
function remember(gesture) {
  if (gesture !== undefined && gesture === state.gesture) return;
  state.gesture = gesture;
  state.undo.push({ parameters: state.parameters, trace: state.trace });
  showUndo();
}

function set(parameters) {
  state.parameters = parameters;
  draw();
  refresh();
}

function components() {
  const { means, scale } = state.parameters;
  return means.map((mean, k) => ({ mean, factor: scale[k] }));
}

function draw() {
  plot.drawMixture(components());
  state.parameters.pi_logits.forEach((logit, k) => {
    const slider = $(`logit-${k}`);
    if (document.activeElement !== slider || Number(slider.value) !== logit) slider.value = logit;
    slider.setAttribute("aria-valuetext", number(logit, 2));
  });
  stale();
}

// One evaluation at a time, at most one a frame, always of the latest parameters.
let wanted = false;
let running;
function refresh() {
  wanted = true;
  $("plot").setAttribute("aria-busy", "true");
  running ??= follow().finally(() => {
    running = undefined;
    $("plot").setAttribute("aria-busy", "false");
  });
  return running;
}

async function follow() {
  while (wanted) {
    await new Promise(requestAnimationFrame);
    wanted = false;
    const { data, parameters } = state;
    try {
      const found = await python.ask("evaluate", data, parameters, $("mistake").value);
      if (data !== state.data || found.weights.length !== state.parameters.means.length) continue;
      state.found = found;
      if (parameters === state.parameters && state.trace.length) {
        const since = compared(found.loss, state.trace.at(-1));
        say(since ? `Moved: loss ${number(found.loss, 6)}, ${since} since the last step.` : "");
      }
      show();
      if ($("code-box").open) await showCode();
    } catch (error) {
      complain(error);
    }
  }
}

/** Start again, with data, components and seed as they are chosen. */
async function restart(first) {
  const count = Number($("count").value);
  const parameters = first ?? (await python.ask("start", state.data, count, state.seed));
  const { x, columns } = page.data[state.data];
  state.found = undefined;
  plot.found = undefined;
  state.undo = [];
  state.trace = [];
  showUndo();
  makeRows(count);
  state.parameters = parameters;
  plot.glide(false);
  plot.show(x, columns);
  draw();
  await refresh();
  state.trace = [state.found.loss];
  showTrace();
  await listMistakes();
}

async function anew() {
  setBusy(true);
  try {
    await restart();
  } catch (error) {
    complain(error);
  } finally {
    setBusy(false);
  }
}

function compared(loss, before) {
  const change = loss - before;
  return Math.abs(change) < 5e-7 ? "" : `${change < 0 ? "down" : "up"} by ${Math.abs(change).toFixed(6)}`;
}

async function take(kind, name, mistake = "") {
  setBusy(true);
  try {
    const before = state.found.loss;
    const rate = Number($("rate").value);
    const { parameters, note } = await python.ask("step", kind, state.data, state.parameters, rate, mistake);
    remember();
    plot.glide(true);
    set(parameters);
    await refresh();
    state.trace = [...state.trace, state.found.loss];
    showTrace();
    const by = compared(state.found.loss, before) || "unchanged";
    say(`${name}: loss ${number(state.found.loss, 6)}, ${by}. ${note}`);
  } catch (error) {
    complain(error);
  } finally {
    setBusy(false);
  }
}

onClick("gradient", () => take("gradient", "Gradient step"));
onClick("em", () => take("em", "EM step"));
onClick("newton", () => take("newton", "Newton step"));
onClick("undo", () => {
  const { parameters, trace } = state.undo.pop();
  state.gesture = undefined;
  showUndo();
  state.trace = trace;
  plot.glide(true);
  set(parameters);
  showTrace();
});
onClick("again", () => {
  state.seed += 1;
  anew();
});
$("data").addEventListener("change", () => {
  state.data = $("data").value;
  $("count").value = state.data === "faithful" ? 2 : 3;
  anew();
});
$("count").addEventListener("change", anew);
function showRate() {
  $("rate-value").textContent = Number($("rate").value).toFixed(1);
  if (state.found) show();
}
$("rate").addEventListener("input", showRate);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.found && show());

// --- numbers --------------------------------------------------------------------------------------

const ENTRIES = [
  ["a", (p, k) => p.pi_logits[k], "logit"],
  ["μ0", (p, k) => p.means[k][0], "mean"],
  ["μ1", (p, k) => p.means[k][1], "mean"],
  ["L00", (p, k) => p.scale[k][0][0], "factor"],
  ["L10", (p, k) => p.scale[k][1][0], "factor"],
  ["L11", (p, k) => p.scale[k][1][1], "factor"],
  ["L01", (p, k) => p.scale[k][0][1], "factor"],
];

function subscripted(name) {
  return [name[0], element("sub", {}, name.slice(1))];
}

/** Make what there is one of for each component: sliders of logits, columns of the table. */
function makeRows(count) {
  const rows = Array.from({ length: count }, (_, k) => {
    const slider = element("input", {
      type: "range", id: `logit-${k}`, min: -5, max: 5, step: 0.01, "aria-label": `Logit of component ${k}`,
    });
    slider.addEventListener("input", () => {
      remember(`logit ${k}`);
      const { pi_logits } = state.parameters;
      set({ ...state.parameters, pi_logits: pi_logits.with(k, Number(slider.value)) });
    });
    slider.addEventListener("change", () => (state.gesture = undefined));
    const track = element("span", { class: "track" }, slider, element("span", { class: "pull right" }), element("span", { class: "pull wrong" }));
    return element("li", { class: `of-${k}` }, marker(k), element("b", {}, k), track,
      element("span", { class: "weight" }, element("span", { class: "share" }), element("output", {})));
  });
  $("logits").replaceChildren(...rows);
  const head = Array.from({ length: count }, (_, k) => element("th", { scope: "col", class: `of-${k}` }, marker(k), ` ${k}`));
  $("head").replaceChildren(element("th", { scope: "col" }, "−∂f/∂"), ...head);
  $("entries").replaceChildren(
    ...ENTRIES.map(([name]) =>
      element("tr", { id: `row-${name}` }, element("th", { scope: "row" }, ...subscripted(name)),
        ...Array.from({ length: count }, (_, k) => element("td", { class: `of-${k}` }))),
    ),
  );
}

function bar(value, largest, kind) {
  const share = value === null ? 0 : Math.max(-1, Math.min(1, value / largest));
  const mark = element("span", { class: `bar ${kind}`, "aria-hidden": "true" });
  mark.style.setProperty("--from", `${50 + 50 * Math.min(share, 0)}%`);
  mark.style.setProperty("--size", `${50 * Math.abs(share)}%`);
  return element("span", { class: `entry ${kind}` }, number(value, 4), mark);
}

function show() {
  const { found } = state;
  const rate = Number($("rate").value);
  plot.drawFound(found, rate);
  $("loss").textContent = number(found.loss, 6);
  $("loss").value = found.loss;
  found.weights.forEach((weight, k) => {
    const row = $("logits").children[k];
    row.querySelector(".share").style.width = `${100 * weight}%`;
    row.querySelector("output").textContent = number(weight, 3);
    pull(row.querySelector(".pull.right"), k, rate * found.down.pi_logits[k]);
    pull(row.querySelector(".pull.wrong"), k, found.mistake ? rate * found.mistake.down.pi_logits[k] : 0);
  });
  const values = ENTRIES.flatMap(([, read]) => found.weights.map((_, k) => Math.abs(read(found.down, k))));
  const largest = Math.max(...values, 1e-6);
  for (const [name, read] of ENTRIES) {
    const row = $(`row-${name}`);
    const wrong = found.mistake ? found.weights.map((_, k) => read(found.mistake.down, k)) : undefined;
    row.hidden = name === "L01" && !wrong?.some((value) => value !== 0);
    found.weights.forEach((_, k) => {
      const right = read(found.down, k);
      const cell = row.children[k + 1];
      cell.replaceChildren(bar(right, largest, "right"));
      if (wrong && wrong[k] !== right) cell.append(bar(wrong[k], largest, "wrong"));
    });
  }
  if (found.mistake) showMistake();
}

/** An arrow along a slider's track, from its logit as far as `rate` times the gradient goes. */
function pull(mark, k, by) {
  const { min, max } = $(`logit-${k}`);
  const span = max - min;
  const at = Math.min(Math.max((state.parameters.pi_logits[k] - min) / span, 0), 1);
  mark.hidden = !by || Math.abs(by) / span < 0.004;
  mark.classList.toggle("left", by < 0);
  mark.style.setProperty("--at", Math.min(at, at + by / span));
  mark.style.setProperty("--size", Math.abs(by / span));
}

function showTrace() {
  const { trace } = state;
  const svg = $("trace");
  svg.toggleAttribute("hidden", trace.length < 2);
  const [low, high] = [Math.min(...trace), Math.max(...trace)];
  const points = trace.map((loss, i) => [
    6 + (188 * i) / Math.max(trace.length - 1, 1),
    6 + (32 * (high - loss)) / (high - low || 1),
  ]);
  svg.querySelector("polyline").setAttribute("points", points.map((p) => p.join(" ")).join(" "));
  const [x, y] = points.at(-1);
  svg.querySelector("circle").setAttribute("cx", x);
  svg.querySelector("circle").setAttribute("cy", y);
  const steps = trace.length - 1;
  $("steps").textContent = steps === 0 ? "" : `${steps} ${steps === 1 ? "step" : "steps"} from ${number(trace[0], 4)}`;
}

$("code-box").addEventListener("toggle", () => refresh());
async function showCode() {
  $("code").textContent = await python.ask("code", state.data, state.parameters);
}

// --- what if --------------------------------------------------------------------------------------

async function listMistakes() {
  state.mistakes = await python.ask("mistakes", state.data, state.parameters);
  const groups = Object.entries(CHANGES).map(([changes, label]) => {
    const own = state.mistakes.filter((each) => each.changes === changes);
    return element("optgroup", { label: `${label} (${own.length})` },
      ...own.map(({ name, text }) => element("option", { value: name }, text)));
  });
  const chosen = $("mistake").value;
  $("mistake").replaceChildren(element("option", { value: "" }, "Choose a mistake"), ...groups);
  $("mistake").value = chosen;
}

$("mistake").addEventListener("change", async () => {
  const name = $("mistake").value;
  document.body.classList.toggle("mistaken", name !== "");
  $("mistaken").hidden = name === "";
  $("verdict").replaceChildren();
  $("report").hidden = true;
  state.checked = undefined;
  await refresh();
  if (name) await check();
});

function showMistake() {
  const { loss, mistake } = state.found;
  const text = state.mistakes.find(({ name }) => name === $("mistake").value).text;
  $("what").replaceChildren(text);
  $("losses").textContent = mistake.loss === loss
    ? `Its loss is right: ${number(loss, 6)}.`
    : `Its loss is ${number(mistake.loss, 6)}; right is ${number(loss, 6)}.`;
}

onClick("check", check);
onClick("astray", () => take("gradient", "A step by the wrong gradient", $("mistake").value));

async function check() {
  const mistake = $("mistake").value;
  const { data, parameters } = state;
  $("verdict").className = "verdict";
  $("verdict").textContent = "Differences are being taken …";
  setBusy(true);
  try {
    const report = await python.ask("check", data, parameters, mistake);
    if (mistake !== $("mistake").value) return;
    state.checked = { mistake, parameters };
    showReport(report);
  } catch (error) {
    $("report").hidden = true;
    $("verdict").textContent = `There is no check: ${error.message}`;
  } finally {
    setBusy(false);
    stale();
  }
}

function showReport({ wrong, right, vectors }) {
  const failed = wrong.rows.filter(({ verdict }) => verdict !== "ok");
  const { loss, mistake, down } = state.found;
  const differs = loss !== mistake.loss
    || ENTRIES.some(([, read]) => down.means.some((_, k) => read(down, k) !== read(mistake.down, k)));
  const known = `${vectors.length} certified vectors catch it, such as ${vectors[0]} (gmm-np conformance)`;
  const verdict = $("verdict");
  if (failed.some((row) => row.verdict.startsWith("WRONG"))) {
    verdict.className = "verdict caught";
    verdict.textContent = `Caught. The loss does not change as this gradient of ${failed.map(({ name }) => name).join(", ")} says.`;
  } else if (failed.length) {
    verdict.className = "verdict missed";
    verdict.textContent = `Rounding hides ${failed.map(({ name }) => name).join(", ")} from differences here. ${known}.`;
  } else if (differs) {
    verdict.className = "verdict missed";
    verdict.textContent = `Not caught by differences: this is the right gradient of a wrong value. A gradient check compares a gradient with its own value; only what knows the right value can tell. ${known}.`;
  } else {
    verdict.className = "verdict missed";
    verdict.textContent = `At this mixture nothing is wrong, and so nothing is found. ${known}.`;
  }
  const rows = (report, title) => [
    element("tr", {}, element("th", { colspan: 5, scope: "rowgroup" }, title)),
    ...report.rows.map((row) =>
      element("tr", { class: row.verdict === "ok" ? "ok" : "bad" },
        element("th", { scope: "row" }, row.name),
        element("td", { class: "said" }, row.verdict),
        ...[row.analytic, row.numeric].map((value) => element("td", {}, value === null ? "no number" : value.toExponential(3).replaceAll("-", "−"))),
        element("td", {}, row.error === null ? "∞" : row.error.toExponential(0).replaceAll("-", "−"))),
    ),
  ];
  $("report-rows").replaceChildren(...rows(wrong, "This mistake"), ...rows(right, "gmm_np"));
  $("report").hidden = false;
}

/** Say where a check no longer is of what the picture shows. */
function stale() {
  const { checked } = state;
  $("stale").hidden = !checked || checked.parameters === state.parameters;
}

// --- exercises ------------------------------------------------------------------------------------

const written = new Map(); // what was typed, by function

function showExercises() {
  const titles = [...new Set(page.exercises.map(({ title }) => title))];
  const groups = titles.map((title, i) => {
    const parts = page.exercises.filter((each) => each.title === title);
    return element("optgroup", { label: `${i + 1}. ${title} ${parts[0].numbers}` },
      ...parts.map(({ name }) => element("option", { value: name }, name)));
  });
  $("exercise").replaceChildren(...groups);
  $("exercise").value = "logsumexp_backward";
  openExercise();
}

function exercise() {
  return page.exercises.find(({ name }) => name === $("exercise").value);
}

function openExercise() {
  const { name, stub, hard, solution } = exercise();
  $("source").value = written.get(name) ?? ($("hard").checked ? hard : stub);
  $("solution").textContent = solution;
  $("solution-box").open = false;
  $("graded").className = "verdict";
  $("graded").replaceChildren();
}

$("exercise").addEventListener("change", openExercise);
$("hard").addEventListener("change", () => {
  written.delete(exercise().name);
  openExercise();
});
$("stub").addEventListener("click", () => {
  written.delete(exercise().name);
  openExercise();
  $("source").focus();
});
$("source").addEventListener("input", () => written.set(exercise().name, $("source").value));
$("source").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) {
    grade();
    return;
  }
  const { value, selectionStart } = $("source");
  const line = value.slice(value.lastIndexOf("\n", selectionStart - 1) + 1, selectionStart);
  const indent = line.match(/^ */)[0] + (line.trimEnd().endsWith(":") ? "    " : "");
  document.execCommand("insertText", false, `\n${indent}`); // keeps the box's own undo
});
onClick("grade", grade);

async function grade() {
  if (working) return;
  const { name } = exercise();
  $("graded").className = "verdict";
  $("graded").textContent = "It is being run …";
  setBusy(true);
  try {
    showFinding(name, await python.askFor(PATIENCE, "grade", name, $("source").value));
    setBusy(false);
  } catch (error) {
    $("graded").className = "verdict caught";
    $("graded").textContent = error instanceof Stopped
      ? `${name} was still running after ${PATIENCE} s, and was ended: look for a loop that does not end. Python is being started again.`
      : error.message;
    if (!(error instanceof Stopped)) setBusy(false);
  }
}

function showFinding(name, { verdict, text, hint, printed }) {
  $("graded").className = `verdict ${{ right: "fine", wrong: "caught" }[verdict] ?? "missed"}`;
  const lines = [element("strong", {}, `${name}: ${verdict}.`), ` ${text}`];
  if (hint) lines.push(element("p", {}, `Hint: ${hint}`));
  if (printed) lines.push(element("p", {}, "It printed:"), element("pre", {}, printed));
  $("graded").replaceChildren(...lines);
}
