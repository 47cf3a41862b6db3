// The picture: samples, ellipses, their handles, and arrows down the gradient. It computes nothing
// but where things are on the screen: an ellipse is the unit circle, mapped by the factor L.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 34, right: 10, top: 10, bottom: 28 };
const LEAST = 0.05; // of a diagonal of L, which has to be positive

// A marker for each component, so that colour is not all that tells them apart.
const MARKERS = [
  "M4 0A4 4 0 1 1 -4 0A4 4 0 1 1 4 0Z",
  "M0 -5L4.6 3.4L-4.6 3.4Z",
  "M-3.6 -3.6H3.6V3.6H-3.6Z",
  "M0 -5.2L4.2 0L0 5.2L-4.2 0Z",
];

function make(name, attributes = {}, parent = undefined) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

/** A number as it is read: with a real minus sign. */
export function number(value, digits) {
  if (value === null) return "no number";
  const small = value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits;
  return (small ? value.toExponential(0) : (value || 0).toFixed(digits)).replaceAll("-", "−");
}

/** Colours of the components, as numbers from 0 to 255, from the style sheet. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  return MARKERS.map((_, k) =>
    style.getPropertyValue(`--component-${k}`).trim().match(/[0-9a-f]{2}/gi).map((hex) => parseInt(hex, 16)),
  );
}

/** Mixed by shares, in linear light. */
function mix(palette, shares) {
  const parts = [0, 1, 2].map((channel) => {
    const light = shares.reduce((sum, share, k) => sum + share * (palette[k][channel] / 255) ** 2.2, 0);
    return Math.round(255 * light ** (1 / 2.2));
  });
  return `rgb(${parts.join(" ")})`;
}

export function marker(k) {
  const svg = make("svg", { viewBox: "-6 -6 12 12", class: `marker of-${k}`, "aria-hidden": "true" });
  make("path", { d: MARKERS[k] }, svg);
  return svg;
}

// What is dragged, and moved by arrow keys: the mean, and the ends of the columns of L, of which the
// second has no first entry. `put` changes a component so that the handle is at a place.
const HANDLES = [
  {
    name: "mean",
    place: ({ mean }) => mean,
    put: (component, at) => ({ ...component, mean: at }),
    grow: ({ factor: [[a, b], [c, d]] }, by) => [[by * a, b], [by * c, by * d]],
    says: ({ mean }, [x, y]) => `${x} ${number(mean[0], 2)}, ${y} ${number(mean[1], 2)}`,
  },
  {
    name: "first column of L",
    place: ({ mean, factor }) => [mean[0] + factor[0][0], mean[1] + factor[1][0]],
    put: ({ mean, factor: [, [, d]] }, [x, y]) => ({
      mean,
      factor: [[Math.max(x - mean[0], LEAST), 0], [y - mean[1], d]],
    }),
    grow: ({ factor: [[a, b], [c, d]] }, by) => [[by * a, b], [by * c, d]],
    says: ({ factor }) => `L00 ${number(factor[0][0], 2)}, L10 ${number(factor[1][0], 2)}`,
  },
  {
    name: "second column of L",
    place: ({ mean, factor }) => [mean[0], mean[1] + factor[1][1]],
    put: ({ mean, factor: [top, [c]] }, [, y]) => ({
      mean,
      factor: [top, [c, Math.max(y - mean[1], LEAST)]],
    }),
    grow: ({ factor: [top, [c, d]] }, by) => [top, [c, by * d]],
    says: ({ factor }) => `L11 ${number(factor[1][1], 2)}`,
  },
];
const KNOBS = ["M7 0A7 7 0 1 1 -7 0A7 7 0 1 1 7 0Z", "M0 -8L8 0L0 8L-8 0Z", "M-9 -3.5H9V3.5H-9Z"];
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** What pulls each handle of a component: the gradients of its mean, and of the columns of L. */
function pulls({ means, scale }, k) {
  const [[a, b], [c, d]] = scale[k];
  return [means[k], [a, c], [b, d]];
}

export class Plot {
  /**
   * `moved(k, component, held)` is told of each move of a component: {mean, factor}; `held` names
   * the gesture, so that what belongs together is undone together.
   */
  constructor(svg, moved) {
    this.svg = svg;
    this.moved = moved;
    this.layers = {};
    for (const name of ["axes", "samples", "ellipses", "halos", "handles", "arrows"]) {
      this.layers[name] = make("g", { class: name }, svg);
    }
    for (const name of ["axes", "samples", "ellipses", "halos", "arrows"]) {
      this.layers[name].setAttribute("aria-hidden", "true");
    }
    this.components = [];
    this.held = 0;
    new ResizeObserver(() => this.resize()).observe(svg);
  }

  /** Show other data: rows of two numbers, and the names of their columns. */
  show(x, columns) {
    this.x = x;
    this.columns = columns;
    this.range = [0, 1].map((axis) => {
      const values = x.map((row) => row[axis]);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return [low - 0.12 * (high - low), high + 0.12 * (high - low)];
    });
    this.layers.samples.replaceChildren(...x.map(() => make("path", { d: MARKERS[0] })));
    this.resize();
  }

  resize() {
    const { width, height } = this.svg.getBoundingClientRect();
    if (!this.x || !width) return;
    const inner = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    // Equal units on both axes: an arrow has the direction that its numbers say.
    this.scale = Math.min(...inner.map((size, axis) => size / (this.range[axis][1] - this.range[axis][0])));
    const middle = this.range.map(([low, high]) => (low + high) / 2);
    this.origin = [
      MARGIN.left + inner[0] / 2 - this.scale * middle[0],
      MARGIN.top + inner[1] / 2 + this.scale * middle[1],
    ];
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.size = [width, height];
    this.drawAxes();
    this.x.forEach((row, n) => {
      this.layers.samples.children[n].setAttribute("transform", `translate(${this.pixel(row).join(" ")})`);
    });
    this.drawMixture(this.components);
    if (this.found) this.drawFound(this.found, this.rate);
  }

  pixel([x, y]) {
    return [this.origin[0] + this.scale * x, this.origin[1] - this.scale * y];
  }

  place(event) {
    const box = this.svg.getBoundingClientRect();
    const inside = [
      Math.min(Math.max(event.clientX - box.left, MARGIN.left), box.width - MARGIN.right),
      Math.min(Math.max(event.clientY - box.top, MARGIN.top), box.height - MARGIN.bottom),
    ];
    return [(inside[0] - this.origin[0]) / this.scale, (this.origin[1] - inside[1]) / this.scale];
  }

  drawAxes() {
    const [width, height] = this.size;
    const floor = height - MARGIN.bottom;
    const step = this.scale > 34 ? 1 : 2;
    const parts = [];
    const line = (x1, y1, x2, y2) => parts.push(make("line", { x1, y1, x2, y2 }));
    const text = (x, y, content, anchor) => {
      const element = make("text", { x, y, "text-anchor": anchor });
      element.textContent = content;
      parts.push(element);
    };
    for (let tick = -40; tick <= 40; tick += step) {
      const [x, y] = this.pixel([tick, tick]);
      if (x >= MARGIN.left && x <= width - MARGIN.right) {
        line(x, MARGIN.top, x, floor);
        text(x, floor + 15, number(tick, 0), "middle");
      }
      if (y >= MARGIN.top && y <= floor) {
        line(MARGIN.left, y, width - MARGIN.right, y);
        text(MARGIN.left - 7, y + 4, number(tick, 0), "end");
      }
    }
    text(width - MARGIN.right, floor - 7, this.columns[0], "end");
    text(MARGIN.left + 6, MARGIN.top + 14, this.columns[1], "start");
    this.layers.axes.replaceChildren(...parts);
  }

  /** Draw ellipses and handles of components {mean, factor}; a change of their number makes new ones. */
  drawMixture(components) {
    if (components.length !== this.components.length) this.makeComponents(components.length);
    this.components = components;
    components.forEach((component, k) => {
      const { mean, factor: [[a], [c, d]] } = component;
      const centre = this.pixel(mean);
      [1, 2].forEach((radius, i) => {
        const s = radius * this.scale;
        this.ellipses[k][i].style.transform = `matrix(${s * a}, ${-s * c}, 0, ${-s * d}, ${centre[0]}, ${centre[1]})`;
      });
      HANDLES.forEach(({ name, place, says }, i) => {
        const at = place(component);
        const handle = this.handles[k][i];
        const [x, y] = this.pixel(at);
        handle.style.transform = `translate(${x}px, ${y}px)`;
        handle.setAttribute("aria-valuenow", at[i === 2 ? 1 : 0].toFixed(2));
        handle.setAttribute("aria-valuetext", says(component, this.columns));
        if (i === 0) return;
        const ends = { x1: centre[0], y1: centre[1], x2: x, y2: y };
        for (const [key, value] of Object.entries(ends)) this.spokes[k][i - 1].setAttribute(key, value);
      });
    });
  }

  makeComponents(count) {
    this.layers.ellipses.replaceChildren();
    this.layers.handles.replaceChildren();
    this.layers.arrows.replaceChildren();
    this.layers.halos.replaceChildren();
    this.ellipses = [];
    this.handles = [];
    this.spokes = [];
    for (let k = 0; k < count; k++) {
      const own = make("g", { class: `of-${k}` }, this.layers.ellipses);
      this.spokes.push([0, 1].map(() => make("line", { class: "spoke" }, own)));
      this.ellipses.push([1, 2].map((radius) => make("circle", { r: 1, class: `radius-${radius}` }, own)));
      const group = make("g", { class: `of-${k}` }, this.layers.handles);
      this.handles.push(HANDLES.map((_, i) => this.makeHandle(group, k, i)));
    }
  }

  makeHandle(group, k, i) {
    const { name } = HANDLES[i];
    const handle = make("g", { class: `handle handle-${i}`, tabindex: 0, role: "slider" }, group);
    handle.setAttribute("aria-label", `Component ${k}, ${name}`);
    make("circle", { r: 16, class: "target" }, handle);
    make("circle", { r: 12, class: "ring" }, handle);
    make("path", { d: KNOBS[i], class: "knob" }, handle);
    if (i === 0) make("text", { x: -9, y: 18, "text-anchor": "end" }, handle).textContent = k;
    handle.addEventListener("pointerdown", (event) => this.grab(event, handle, k, i));
    handle.addEventListener("keydown", (event) => this.press(event, k, i));
    handle.addEventListener("blur", () => this.held++);
    return handle;
  }

  grab(event, handle, k, i) {
    if (event.button !== 0) return;
    event.preventDefault();
    handle.focus({ focusVisible: false });
    handle.setPointerCapture(event.pointerId);
    const held = ++this.held;
    const start = this.place(event);
    const offset = HANDLES[i].place(this.components[k]).map((value, axis) => value - start[axis]);
    const move = (now) => {
      const at = this.place(now).map((value, axis) => value + offset[axis]);
      this.moved(k, HANDLES[i].put(this.components[k], at), held);
    };
    const end = () => {
      handle.removeEventListener("pointermove", move);
      this.held++;
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("lostpointercapture", end, { once: true });
  }

  press(event, k, i) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const component = this.components[k];
    const { place, put, grow } = HANDLES[i];
    const direction = KEYS[event.key];
    if (direction) {
      const far = event.shiftKey ? 0.25 : 0.05;
      const at = place(component).map((value, axis) => value + far * direction[axis]);
      this.moved(k, put(component, at), this.held);
    } else if (["+", "=", "-", "_"].includes(event.key)) {
      const by = "+=".includes(event.key) ? 1.05 : 1 / 1.05;
      const factor = grow(component, by);
      if (factor[0][0] < LEAST || factor[1][1] < LEAST) return;
      this.moved(k, { ...component, factor }, this.held);
    } else return;
    event.preventDefault();
  }

  /** Colour the samples by responsibilities, and draw `rate` times the negative gradients. */
  drawFound(found, rate) {
    this.found = found;
    this.rate = rate;
    const palette = colours();
    found.responsibilities.forEach((shares, n) => {
      const sample = this.layers.samples.children[n];
      sample.setAttribute("fill", mix(palette, shares));
      sample.setAttribute("d", MARKERS[shares.indexOf(Math.max(...shares))]);
    });
    const arrows = [];
    const draw = (down, kind, known) => {
      this.components.forEach((component, k) => {
        const moves = pulls(down, k);
        HANDLES.forEach(({ place }, i) => {
          if (moves[i].includes(null) || String(moves[i]) === String(known && pulls(known, k)[i])) return;
          const from = place(component);
          arrows.push(...this.arrow(from, from.map((value, axis) => value + rate * moves[i][axis]), kind));
        });
      });
    };
    draw(found.down, "right");
    if (found.mistake) draw(found.mistake.down, "wrong", found.down);
    this.layers.arrows.replaceChildren(...arrows.flatMap(({ shaft, tip }) => [shaft, tip]));
    this.layers.halos.replaceChildren(...arrows.map(({ halo }) => halo)); // below the handles
  }

  arrow(from, to, kind) {
    const [[x1, y1], [x2, y2]] = [this.pixel(from), this.pixel(to)];
    const length = Math.hypot(x2 - x1, y2 - y1);
    if (length < 1.5) return [];
    const [u, v] = [(x2 - x1) / length, (y2 - y1) / length];
    const head = Math.min(9, length);
    const [bx, by] = [x2 - head * u, y2 - head * v];
    const tip = `M${x2} ${y2}L${bx - 0.5 * head * v} ${by + 0.5 * head * u}L${bx + 0.5 * head * v} ${by - 0.5 * head * u}Z`;
    const shaft = `M${x1} ${y1}L${bx} ${by}`;
    return [{
      halo: make("path", { d: shaft + tip, class: "halo" }),
      shaft: make("path", { d: shaft, class: `shaft ${kind}` }),
      tip: make("path", { d: tip, class: `tip ${kind}` }),
    }];
  }

  /** Let the next changes glide, or follow at once. */
  glide(on) {
    this.svg.classList.toggle("gliding", on);
  }
}
