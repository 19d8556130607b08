// The graph of a series: its points and those of the same measurement in other environments, from the JSON API.
//
// What is shown is in the address (from, to, x, log, spread, with), so that it can be shared and "back" works. Without
// this script the page keeps its plain drawing and its table.
"use strict";

(() => {
  const PAGE_POINTS = 1000;
  const MOST_POINTS = 20000;
  const CLICK_PIXELS = 4;
  const DOUBLE_CLICK_MILLISECONDS = 250;
  const DASHES = [[], [9, 5], [2, 4], [12, 4, 2, 4], [4, 3], [9, 3, 3, 3]];

  const box = document.getElementById("graph");
  const form = document.getElementById("range");
  const failed = document.getElementById("failed");
  const { series: seriesId, title, metric, unit, branch } = box.dataset;
  const factor = Number(box.dataset.factor);
  const overlays = [...document.querySelectorAll("[data-overlay] input")];
  const lines = new Map(); // series id: its points, oldest first
  const readout = document.createElement("div");
  readout.className = "readout";
  readout.hidden = true;
  readout.setAttribute("aria-live", "polite");

  let view = readView();
  let plot = null;
  let slots = []; // one per x position: {time, commit}
  let shown = []; // per data row of the plot: {title, points by slot} or null for the edges of the band
  let focus = null; // the point under the cursor

  // --- what to show, kept in the address ---

  function readView() {
    const query = new URLSearchParams(location.search);
    return {
      from: readTime(query.get("from"), false),
      to: readTime(query.get("to"), true),
      x: query.get("x") === "time" ? "time" : "commit",
      log: query.get("log") === "1",
      spread: query.get("spread") !== "0",
      others: new Set((query.get("with") || "").split(",").filter((id) => overlays.some((one) => one.value === id))),
    };
  }

  function readTime(text, endOfDay) {
    if (!text) return null;
    const whole = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T${endOfDay ? "23:59:59.999" : "00:00:00"}Z` : text;
    const time = Date.parse(whole);
    return Number.isNaN(time) ? null : time / 1000;
  }

  function address() {
    const query = new URLSearchParams();
    if (view.from !== null) query.set("from", new Date(view.from * 1000).toISOString());
    if (view.to !== null) query.set("to", new Date(view.to * 1000).toISOString());
    if (branch) query.set("branch", branch);
    if (view.x === "time") query.set("x", "time");
    if (view.log) query.set("log", "1");
    if (!view.spread) query.set("spread", "0");
    if (view.others.size) query.set("with", [...view.others].join(","));
    const text = query.toString();
    return location.pathname + (text ? `?${text}` : "");
  }

  function change(changes) {
    view = { ...view, ...changes };
    history.pushState(null, "", address());
    draw();
  }

  // --- data ---

  async function load(id) {
    if (lines.has(id)) return;
    let points = [];
    let before = null;
    do {
      const query = new URLSearchParams({ limit: PAGE_POINTS });
      if (branch) query.set("branch", branch);
      if (before) query.set("before", before);
      const answer = await fetch(`/api/v1/series/${id}/points?${query}`, { headers: { accept: "application/json" } });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      const page = await answer.json();
      points = page.items.concat(points);
      before = page.next;
    } while (before && points.length < MOST_POINTS);
    lines.set(id, points.map((point) => ({ ...point, seconds: Date.parse(point.time) / 1000 })));
  }

  function edges(point) {
    if (point.min !== null && point.max !== null) return [point.min, point.max];
    if (point.stddev !== null) return [point.value - point.stddev, point.value + point.stddev];
    return [null, null];
  }

  function arrange() {
    // A position per commit (or per moment), and one more for each time it was measured again.
    const chosen = [{ id: seriesId, title, colour: 1 }];
    overlays.forEach((one, index) => {
      if (view.others.has(one.value) && lines.has(one.value)) {
        chosen.push({ id: one.value, title: one.dataset.title, colour: (index % 5) + 2 });
      }
    });
    const places = new Map();
    const placed = chosen.map((line) => {
      const times = new Map();
      return lines.get(line.id).map((point) => {
        const what = (view.x === "commit" && point.commit) || point.time;
        const nth = (times.get(what) || 0) + 1;
        times.set(what, nth);
        const key = `${what} ${nth}`;
        if (!places.has(key)) places.set(key, { key, time: point.seconds, commit: point.commit });
        return [key, point];
      });
    });
    slots = [...places.values()].sort((a, b) => a.time - b.time || (a.key < b.key ? -1 : 1));
    const position = new Map(slots.map((slot, index) => [slot.key, index]));
    const rows = [slots.map((slot, index) => (view.x === "time" ? slot.time : index))];
    shown = [null];
    chosen.forEach((line, index) => {
      const points = new Array(slots.length).fill(null);
      for (const [key, point] of placed[index]) points[position.get(key)] = point;
      rows.push(points.map((point) => (point && (!view.log || point.value > 0) ? point.value * factor : null)));
      shown.push({ ...line, points });
      if (index === 0 && view.spread) {
        for (const edge of [0, 1]) {
          rows.push(
            points.map((point) => {
              const value = point ? edges(point)[edge] : null;
              return value === null || (view.log && value <= 0) ? null : value * factor;
            }),
          );
          shown.push(null);
        }
      }
    });
    return rows;
  }

  // --- drawing ---

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function number(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e15) return value.toExponential(2);
    return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 15 : 4, maximumFractionDigits: 6 });
  }

  function four(value) {
    return number(Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(4)));
  }

  function shortCommit(id) {
    return /^[0-9a-f]{20,}$/.test(id) ? id.slice(0, 7) : id.slice(0, 12);
  }

  function range() {
    if (slots.length === 0) return [0, 1];
    let inside = slots.map((_, index) => index);
    inside = inside.filter(
      (index) =>
        (view.from === null || slots[index].time >= view.from) && (view.to === null || slots[index].time <= view.to),
    );
    if (view.x === "time") {
      const low = view.from ?? slots[0].time;
      const high = view.to ?? slots[slots.length - 1].time;
      const pad = Math.max((high - low) * 0.02, 60);
      return [low - pad, high + pad];
    }
    if (inside.length === 0) return [0, slots.length - 1];
    const pad = Math.max((inside[inside.length - 1] - inside[0]) * 0.02, 0.5);
    return [inside[0] - pad, inside[inside.length - 1] + pad];
  }

  function logSplits(low, high) {
    // Within a decade the lines of a linear scale read best; beyond it 1, 2, 5 of each, or the decades alone.
    if (high / low < 10) {
      const rough = (high - low) / 6;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].find((one) => one * power >= rough) * power;
      const splits = [];
      for (let nth = Math.ceil(low / step); nth * step <= high; nth += 1) splits.push(nth * step);
      return splits;
    }
    const splits = [];
    const digits = high / low < 1e4 ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const digit of digits) splits.push(digit * 10 ** power);
    }
    return splits.filter((split) => split >= low && split <= high);
  }

  function size() {
    return { width: Math.max(box.clientWidth, 200), height: box.clientWidth < 600 ? 270 : 340 };
  }

  function draw() {
    const data = arrange();
    const ground = { stroke: colour("--muted"), font: "12px system-ui, sans-serif" };
    const grid = { stroke: colour("--line"), width: 1 };
    const few = slots.length <= 300;
    const rows = shown.slice(1).map((line) =>
      line
        ? {
            label: line.title,
            stroke: colour(`--series-${line.colour}`),
            width: 2,
            dash: DASHES[line.colour - 1],
            spanGaps: true,
            points: { show: few, size: 5, fill: colour(`--series-${line.colour}`) },
          }
        : { stroke: "transparent", width: 0, spanGaps: true, points: { show: false } },
    );
    const bands = view.spread ? [{ series: [3, 2], fill: `${colour("--series-1")}2e` }] : [];
    const [low, high] = range();
    plot?.destroy();
    plot = new uPlot(
      {
        ...size(),
        series: [{}, ...rows],
        bands,
        legend: { show: false },
        scales: { x: { time: view.x === "time", range: [low, high] }, y: view.log ? { distr: 3, range: (_, least, most) => (least > 0 ? [least / 1.15, most * 1.15] : [1, 10]) } : {} },
        axes: [
          {
            ...ground,
            grid: { show: false },
            ticks: grid,
            space: 90,
            size: 32,
            ...(view.x === "time" && {
              space: 100,
              values: (_, splits, __, ___, step) =>
                splits.map((at) => {
                  const text = new Date(at * 1000).toISOString();
                  return step >= 86400 ? text.slice(0, 10) : text.slice(5, 16).replace("T", " ");
                }),
            }),
            ...(view.x === "commit" && {
              incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000],
              values: (_, splits) =>
                splits.map((at) => {
                  const slot = slots[at];
                  if (!slot) return "";
                  return slot.commit ? shortCommit(slot.commit) : new Date(slot.time * 1000).toISOString().slice(0, 10);
                }),
            }),
          },
          {
            ...ground,
            grid,
            ticks: { show: false },
            ...(view.log && { splits: (_, __, low, high) => logSplits(low, high), filter: (_, splits) => splits }),
            size: 68,
            label: box.clientWidth < 600 ? undefined : metric + (unit ? ` (${unit})` : ""),
            labelFont: "12px system-ui, sans-serif",
            values: (_, splits) => splits.map((value) => (value === null ? "" : number(value))),
          },
        ],
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        cursor: {
          drag: { x: true, y: false, setScale: false },
          y: false,
          hover: { skip: [null, undefined] },
          points: { size: 9 },
          bind: {
            dblclick: () => () => {
              change({ from: null, to: null });
              return null;
            },
          },
        },
        hooks: { setSelect: [zoom], setCursor: [hover] },
      },
      data,
      (self, ready) => {
        box.replaceChildren(self.root, readout);
        ready();
      },
    );
    listenForClicks(plot.over);
    showControls();
  }

  function zoom(self) {
    if (self.select.width <= CLICK_PIXELS) return;
    const low = self.posToVal(self.select.left, "x");
    const high = self.posToVal(self.select.left + self.select.width, "x");
    const inside = slots.filter((slot, index) => {
      const at = view.x === "time" ? slot.time : index;
      return at >= low && at <= high;
    });
    self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (inside.length > 0) change({ from: inside[0].time, to: inside[inside.length - 1].time });
  }

  function hover(self) {
    focus = null;
    const { left, top, idxs } = self.cursor;
    if (left >= 0) {
      let nearest = Infinity;
      shown.forEach((line, row) => {
        const index = line && idxs ? idxs[row] : null;
        if (index === null || index === undefined || self.data[row][index] === null) return;
        const x = self.valToPos(self.data[0][index], "x");
        const y = self.valToPos(self.data[row][index], "y");
        const distance = Math.hypot(x - left, (y - top) / 3);
        if (distance < nearest) {
          nearest = distance;
          focus = { line, point: line.points[index], x, y };
        }
      });
    }
    showReadout(self);
  }

  function showReadout(self) {
    readout.hidden = focus === null;
    if (focus === null) return;
    const { line, point, x, y } = focus;
    const row = (kind, text, name = "div") => {
      const element = document.createElement(name);
      element.className = kind;
      element.textContent = text;
      return element;
    };
    const [low, high] = edges(point);
    const rows = [row("", `${four(point.value * factor)} ${unit}`, "strong")];
    if (low !== null) rows.push(row("", `${four(low * factor)} – ${four(high * factor)} ${unit}`));
    rows.push(row("subject", [shortCommit(point.commit || ""), point.commit_subject].filter(Boolean).join(" · ") || "no commit"));
    rows.push(row("", line.title));
    rows.push(row("", `${point.time.slice(0, 16).replace("T", " ")} UTC`));
    if (point.completeness !== "complete") rows.push(row("", point.completeness === "partial" ? "partial run" : "run in conflict"));
    readout.replaceChildren(...rows);
    const inner = self.over.getBoundingClientRect();
    const outer = box.getBoundingClientRect();
    const at = x + inner.left - outer.left;
    const leftSide = at > outer.width / 2;
    readout.style.left = leftSide ? "auto" : `${at + 14}px`;
    readout.style.right = leftSide ? `${outer.width - at + 14}px` : "auto";
    readout.style.top = `${Math.max(0, Math.min(y + inner.top - outer.top - 20, outer.height - readout.offsetHeight - 30))}px`;
  }

  function open() {
    if (focus) location.assign(`/runs/${encodeURIComponent(focus.point.run)}`);
  }

  function listenForClicks(over) {
    // A click waits a moment, since it may be the first half of a double click.
    let pressed = null;
    let opening = 0;
    over.addEventListener("mousedown", (event) => {
      pressed = [event.clientX, event.clientY];
    });
    over.addEventListener("click", (event) => {
      clearTimeout(opening);
      if (event.detail > 1 || !pressed) return;
      if (Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) < CLICK_PIXELS) {
        opening = setTimeout(open, DOUBLE_CLICK_MILLISECONDS);
      }
    });
  }

  function step(direction) {
    const [low, high] = range();
    const row = plot.data[1];
    const now = focus ? focus.line.points.indexOf(focus.point) : direction > 0 ? -1 : row.length;
    for (let index = now + direction; index >= 0 && index < row.length; index += direction) {
      const x = plot.data[0][index];
      if (row[index] !== null && x >= low && x <= high) {
        plot.setCursor({ left: plot.valToPos(x, "x"), top: plot.valToPos(row[index], "y") });
        return;
      }
    }
  }

  // --- controls ---

  function showControls() {
    for (const element of document.querySelectorAll(".graph-panel [hidden]")) {
      if (element !== failed && element !== readout) element.hidden = false;
    }
    for (const button of form.querySelectorAll("[data-x]")) {
      button.setAttribute("aria-pressed", String(button.dataset.x === view.x));
    }
    const day = (seconds) => (seconds === null ? "" : new Date(seconds * 1000).toISOString().slice(0, 10));
    form.elements.from.value = day(view.from);
    form.elements.to.value = day(view.to);
    document.getElementById("log").checked = view.log;
    document.getElementById("spread").checked = view.spread;
    for (const one of overlays) one.checked = view.others.has(one.value);
  }

  async function show() {
    try {
      await Promise.all([seriesId, ...view.others].map(load));
      failed.hidden = true;
    } catch (error) {
      failed.textContent = `The graph's data did not come (${error.message}); the drawing and the table are from the page itself.`;
      failed.hidden = false;
      return;
    }
    if (lines.get(seriesId).length > 0) draw();
  }

  form.addEventListener("submit", (event) => {
    if (form.elements.branch && form.elements.branch.value !== branch) return;
    event.preventDefault();
    change({ from: readTime(form.elements.from.value, false), to: readTime(form.elements.to.value, true) });
  });
  document.getElementById("everything").addEventListener("click", (event) => {
    if (branch) return;
    event.preventDefault();
    change({ from: null, to: null });
  });
  for (const button of form.querySelectorAll("[data-x]")) {
    button.addEventListener("click", () => change({ x: button.dataset.x }));
  }
  document.getElementById("log").addEventListener("change", (event) => change({ log: event.target.checked }));
  document.getElementById("spread").addEventListener("change", (event) => change({ spread: event.target.checked }));
  for (const one of overlays) {
    one.addEventListener("change", () => {
      view.others = new Set(overlays.filter((other) => other.checked).map((other) => other.value));
      history.pushState(null, "", address());
      show();
    });
  }
  box.addEventListener("keydown", (event) => {
    if (plot === null) return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      event.preventDefault();
      step(event.key === "ArrowRight" ? 1 : -1);
    } else if (event.key === "Enter") {
      open();
    }
  });
  addEventListener("popstate", () => {
    view = readView();
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plot && draw());
  new ResizeObserver(() => plot && plot.width !== size().width && plot.setSize(size())).observe(box);
  show();
})();
