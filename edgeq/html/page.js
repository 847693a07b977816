"use strict";
(() => {
const all = (selector, of = document) => [...of.querySelectorAll(selector)];
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// Tables that sort: a header is a button, and says how it sorts.

const key = (row, column, number) => {
  const cell = row.cells[column];
  const text = (cell.dataset.v ?? cell.textContent).trim();
  if (!number) return text;
  const read = parseFloat(text.replaceAll(",", "").replace("−", "-"));
  return Number.isNaN(read) ? null : read;
};
const compared = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b, "en", {numeric: true});

function sort(button) {
  const header = button.closest("th"), body = header.closest("table").tBodies[0];
  const down = header.getAttribute("aria-sort") === "ascending";
  const number = button.dataset.kind === "number", sign = down ? -1 : 1;
  for (const each of header.parentNode.cells) each.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].map(row => [key(row, header.cellIndex, number), row]);
  rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * compared(a, b));
  body.append(...rows.map(([, row]) => row));
}

document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button?.matches("table.sort th button")) sort(button);
  if (button?.dataset.all !== undefined) JOBS.forEach(each => each.open = !!button.dataset.all);
});

// The list of jobs: filtered, and opened by a link to one.

// With scripts a job's body is plain text until somebody looks: the browser opens a page of a hundred at once.
function fill(job) {
  const later = job.querySelector(":scope > noscript");
  if (!later) return;
  const made = document.createElement("template");
  made.innerHTML = later.textContent;
  later.replaceWith(made.content);
  all(".plot", job).forEach(place => seen.observe(place));
}

const JOBS = all("details.job");
document.addEventListener("toggle", event => { if (event.target.matches("details.job")) fill(event.target); }, true);
function fillRest(idle) {
  for (let job; idle.timeRemaining() > 4 && (job = JOBS.find(each => each.querySelector(":scope > noscript")));) fill(job);
  if (JOBS.some(each => each.querySelector(":scope > noscript"))) requestIdleCallback(fillRest);
}

const filter = document.getElementById("filter"), failed = document.getElementById("failed");
function choose() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of document.getElementById("jobs").tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word)) || (failed.checked && row.className === "p");
    const job = document.getElementById(row.querySelector("a").hash.slice(1));
    job.hidden = row.hidden;
    shown += !row.hidden;
  }
  document.getElementById("count").textContent = `${shown} shown`;
}
filter?.addEventListener("input", choose);
failed?.addEventListener("change", choose);

function reveal() {
  const found = location.hash.startsWith("#job-") && document.getElementById(location.hash.slice(1));
  if (found) { found.hidden = false; fill(found); found.open = true; found.scrollIntoView(); }
}
addEventListener("hashchange", reveal);

// Plots: drawn when they are looked at, or printed.

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
const MUTED = "var(--muted)", INK = "var(--ink)", LINE = "var(--line)";
const CONFIG = {
  background: null, font: FONT, padding: {left: 2, right: 6, top: 4, bottom: 2},
  view: {stroke: null}, text: {fill: INK, font: FONT, fontSize: 11},
  axis: {labelColor: MUTED, titleColor: MUTED, gridColor: LINE, domainColor: LINE, tickColor: LINE,
         labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", labelLimit: 160, titlePadding: 6},
  title: {color: INK, fontSize: 12, fontWeight: 600, anchor: "start", offset: 8},
  concat: {spacing: 24},
};
const COLORS = [...Array(10).keys()].map(index => `var(--c${index + 1})`);
const told = lines => lines.filter(Boolean).join("\n");
const rough = number => number.toLocaleString("en", {maximumSignificantDigits: 4});
const short = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;

function library() {
  const text = document.getElementById("library");
  if (!window.vegaEmbed && text) {
    document.head.append(Object.assign(document.createElement("script"), {textContent: text.textContent}));
  }
  return window.vegaEmbed;
}

const tip = make("div", {class: "tip", hidden: ""});
document.body.append(tip);
function point(_, event, __, value) {
  tip.hidden = value === null || value === undefined || value === "";
  if (tip.hidden) return;
  tip.textContent = value;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const above = event.clientY + 18 + tip.offsetHeight > innerHeight;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${above ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18}px`;
}

function paint(place, spec) {
  window.vegaEmbed(place, spec, {mode: "vega-lite", renderer: "svg", ast: true, actions: false,
    config: CONFIG, defaultStyle: false, tooltip: point, logLevel: 1}).then(
    () => { for (const svg of all("svg", place)) svg.setAttribute("aria-hidden", "true"); },
    error => { place.textContent = `This plot could not be drawn: ${error.message}`; console.error(error); });
}

// Accuracy against cost

function clustered(points) {
  const span = name => Math.max(...points.map(p => p[name])) - Math.min(...points.map(p => p[name])) || 1;
  const wide = span("x"), high = span("y"), found = new Map();
  for (const point of points) {
    const place = `${Math.round(60 * point.x / wide)} ${Math.round(60 * point.y / high)}`;
    found.set(place, [...(found.get(place) ?? []), point]);
  }
  for (const group of found.values()) for (const point of group) {
    point.tip = group.slice(0, 8).map(each => each.said).concat(group.length > 8 ? [`and ${group.length - 8} more`] : [])
      .join("\n\n");
    const names = [...new Set(group.map(each => each.target))];
    const kept = point === group[0] && group.some(each => each.front);
    point.label = kept ? short(names.slice(0, 2).join(", ") + (names.length > 2 ? ` +${names.length - 2}` : ""), 34) : "";
  }
}

function against(model, metric, data, tint, width) {
  const points = model.points.map((p, index) => [p, index]).filter(([p]) => p.x[metric]).map(([p, index]) => {
    const [x, source] = p.x[metric], about = source === "estimated" ? "≈ " : "";
    return {x, y: p.y, low: p.ends?.[0], high: p.ends?.[1], target: p.target, tint: tint(p),
      front: model.fronts[metric].includes(index), guess: source === "estimated" || p.source === "estimated",
      state: p.state, said: told([`${p.target}, ${p.recipe}: ${p.state}`,
        `${data.costs[metric]} ${about}${rough(x)} ${data.units[metric]} (${source})`,
        `${model.name} ${rough(p.y)} ${data.units[model.score]} (${p.source}${p.n ? `, n ${p.n}` : ""})`])};
  });
  clustered(points);
  points.filter(p => p.label).sort((a, b) => a.x - b.x).forEach((p, index) => p.side = index % 2);
  const xs = points.map(p => p.x), log = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 20;
  const x = {field: "x", type: "quantitative", scale: log ? {type: "log", nice: false, padding: 24} : {zero: false, padding: 24},
    axis: {title: `${data.costs[metric]}${data.units[metric] ? `, ${data.units[metric]}` : ""}`, tickCount: Math.max(3, width / 90), grid: false}};
  const y = {field: "y", type: "quantitative", scale: {zero: false, padding: 14},
    axis: {title: `${model.name}, ${data.units[model.score]}`, tickCount: 5}};
  const layer = [
    {transform: [{filter: "isValid(datum.low)"}], mark: {type: "rule", strokeWidth: 1, opacity: .3},
     encoding: {x, y: {field: "low", type: "quantitative"}, y2: {field: "high"}, color: {field: "tint", type: "nominal", scale: null}}},
    {transform: [{filter: "datum.front"}], mark: {type: "line", interpolate: "step-after", color: INK, strokeWidth: 1.5, opacity: .55},
     encoding: {x, y}},
    {mark: {type: "point", size: 90, strokeWidth: 1.8, opacity: 1}, encoding: {x, y,
      stroke: {field: "tint", type: "nominal", scale: null},
      fill: {field: "tint", type: "nominal", scale: null},
      fillOpacity: {condition: {test: "datum.guess", value: 0}, value: .75},
      strokeDash: {condition: {test: "datum.guess", value: [2, 2]}, value: [1, 0]},
      shape: {condition: {test: "datum.state === 'passed'", value: "circle"}, value: "triangle-down"},
      tooltip: {field: "tip", type: "nominal"}}},
    ...[0, 1].map(side => ({transform: [{filter: `datum.label && datum.side === ${side}`}],
      mark: {type: "text", dy: side ? 17 : -13, fontSize: 11, limit: width - 60}, encoding: {x, y, text: {field: "label"}}})),
  ];
  if (typeof model.baseline === "number") layer.unshift({data: {values: [{y: model.baseline}]},
    mark: {type: "rule", strokeDash: [5, 4], color: MUTED, opacity: .8}, encoding: {y}});
  return {width, height: 230, data: {values: points}, layer};
}

function tradeoff(place, data) {
  const names = Object.keys(data.models);
  let model = data.models[names[0]], costs = [];
  const controls = make("p", {class: "tools"}), charts = make("div", {class: "charts"}), key = make("p", {class: "sub"});
  const available = () => Object.keys(data.costs).filter(metric => model.fronts[metric]);
  const first = () => [...["model_bytes", "latency_ms", "energy_uj"], ...available()]
    .filter((metric, place, list) => model.fronts[metric] && list.indexOf(metric) === place).slice(0, 3);
  function draw() {
    const targets = [...new Set(model.points.map(p => p.target))], few = targets.length <= COLORS.length;
    const tint = p => few ? COLORS[targets.indexOf(p.target)] : p.state === "passed" ? COLORS[0] : COLORS[1];
    const across = Math.max(1, Math.min(costs.length, Math.floor(place.clientWidth / 330)));
    charts.style.cssText = `display:grid;grid-template-columns:repeat(${across},minmax(0,1fr));gap:1rem 1.5rem`;
    charts.replaceChildren();
    for (const metric of costs) {
      const chart = charts.appendChild(make("div"));
      paint(chart, against(model, metric, data, tint, Math.max(160, chart.clientWidth - 68)));
    }
    key.replaceChildren(...(few ? targets.map((target, index) => make("span", {style: "margin-right:1.1em;white-space:nowrap"},
      make("span", {style: `display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.35em;background:${COLORS[index]}`}), target)) : []),
      "● passed  ▼ did not pass  ◌ on an estimate  ┄ float baseline  │ 95 % interval");
  }
  function choose() {
    controls.replaceChildren();
    if (names.length > 1) {
      const select = make("select", {"aria-label": "Model"}, ...names.map(name => make("option", {}, name)));
      select.value = names.find(name => data.models[name] === model);
      select.addEventListener("change", () => { model = data.models[select.value]; costs = first(); choose(); });
      controls.append(make("label", {}, "Model ", select));
    }
    for (const metric of available()) {
      const box = make("input", {type: "checkbox"});
      box.checked = costs.includes(metric);
      box.addEventListener("change", () => {
        costs = available().filter(each => each === metric ? box.checked : costs.includes(each)); draw();
      });
      controls.append(make("label", {}, box, ` ${data.costs[metric]}`));
    }
    draw();
  }
  costs = first();
  place.append(controls, charts, key);
  choose();
  return draw;
}

// Layers: error, sensitivity and cost side by side, a row a layer

function worst(rows, name, low) {
  const order = rows.filter(row => typeof row[name] === "number").sort((a, b) => low ? a[name] - b[name] : b[name] - a[name]);
  return new Set(order.slice(0, 3));
}

function bars(data, name, title, low, options) {
  const marked = worst(data.rows, name, low);
  const total = data.rows.reduce((sum, row) => sum + (row[name] ?? 0), 0) || 1;
  const values = data.rows.map(row => ({label: `${row.i} ${row.op}`, v: row[name], marked: marked.has(row),
    said: low ? `${row[name]?.toFixed(1)} dB` : `${(100 * row[name] / total).toFixed(0)} %`,
    tip: told([`${row.i} ${row.op}`, row.name, row[name] === null ? "no figure" : `${title}: ${row[name].toLocaleString("en")}`,
      row.kernel && `kernel ${row.kernel}`, row.placed && `on the ${row.placed.toUpperCase()}`])}));
  const y = {field: "label", type: "ordinal", sort: null, axis: options.labels ?
    {title: null, ticks: false, domain: false, labelLimit: options.room} : null};
  const guess = !low && data.guess;
  const x = {field: "v", type: "quantitative", axis: {title: null, tickCount: 4, ...(low ? {} : {format: "~s"})},
             scale: {padding: 0, domainMin: low && values.every(v => v.v === null || v.v >= 0) ? 0 : undefined}};
  return {title, width: options.width, height: {step: options.step}, data: {values}, layer: [
    {mark: {type: "bar", height: {band: .72}, cornerRadiusEnd: 2}, encoding: {x, y,
      fill: {condition: {test: "datum.marked", value: COLORS[1]}, value: COLORS[0]},
      stroke: {condition: {test: "datum.marked", value: COLORS[1]}, value: COLORS[0]},
      fillOpacity: {value: guess ? .12 : .8}, strokeDash: {value: guess ? [2, 2] : [1, 0]}, tooltip: {field: "tip", type: "nominal"}}},
    {transform: [{filter: "datum.marked"}], mark: {type: "text", align: "left", dx: 4, fontSize: 10, clip: false},
     encoding: {x, y, text: {field: "said"}}}]};
}

function figures(place) {
  return [...place.parentNode.querySelector("table.layers").tBodies[0].rows].map(row => {
    const text = index => row.cells[index].textContent.trim(), number = index => key(row, index, true);
    const or = index => text(index) === "—" ? "" : text(index);
    return {i: number(0), op: text(1), name: row.cells[2].title || text(2), sqnr: number(4), alone: number(5), cost: number(8),
      kernel: or(9), placed: or(10)};
  }).sort((a, b) => a.i - b.i).slice(0, 400);
}

function layers(place) {
  const data = {rows: figures(place), metric: place.dataset.cost, guess: "guess" in place.dataset};
  const draw = () => {
    const panels = [["sqnr", "Error: SQNR, dB", true], ["alone", "Sensitivity: alone quantized, dB", true],
      ["cost", `Cost: ${data.metric}`, false]]
      .filter(([name]) => data.rows.some(row => row[name] !== null));
    const aside = place.clientWidth > 720, room = Math.min(170, 30 + 7 * Math.max(...data.rows.map(row => row.op.length + 3)));
    const width = aside ? (place.clientWidth - room - 20) / panels.length - 56 : place.clientWidth - room - 58;
    const step = data.rows.length > 60 ? 10 : 17;
    const made = panels.map(([name, title, low], index) => bars(data, name, title, low,
      {width: Math.max(90, width), step, room, labels: !aside || index === 0}));
    chart.replaceChildren();
    paint(chart, {[aside ? "hconcat" : "vconcat"]: made, resolve: {scale: {y: aside ? "shared" : "independent"}}, spacing: aside ? 44 : 24});
  };
  const chart = place.appendChild(make("div"));
  draw();
  return draw;
}

// The arena: when a buffer is needed, and where it lies

function buffers(place) {
  return [...place.parentNode.querySelector("table.buffers").tBodies[0].rows].map(row =>
    [row.cells[0].textContent, ...[1, 2, 3, 4].map(index => key(row, index, true))]);
}

function arena(place) {
  const data = {bytes: Number(place.dataset.bytes), buffers: buffers(place)};
  const last = Math.max(...data.buffers.map(buffer => buffer[4])) + 1;
  const chart = place.appendChild(make("div"));
  const draw = () => {
    const width = place.clientWidth - 70, height = 260;
    const values = data.buffers.map(([name, offset, bytes, first, end]) => ({
      from: first, to: end + 1, low: offset / 1024, high: (offset + bytes) / 1024, scratch: name.startsWith("scratch"),
      label: bytes / data.bytes * height > 13 && (end + 1 - first) / last * width > 44
        ? short(name.replace(/^(output|scratch) of /, "").split(";")[0].split("/").pop(), Math.floor((end + 1 - first) / last * width / 7)) : "",
      tip: told([name, `${bytes.toLocaleString("en")} B at ${offset.toLocaleString("en")}`, `steps ${first} to ${end}`])}));
    const x = {field: "from", type: "quantitative", scale: {domain: [0, last], nice: false}, axis: {title: "step", grid: false, tickMinStep: 1, format: "d"}};
    const y = {field: "low", type: "quantitative", scale: {domain: [0, data.bytes / 1024 * 1.04], nice: false}, axis: {title: "offset, KiB", tickCount: 5}};
    chart.replaceChildren();
    paint(chart, {width, height, layer: [
      ...[false, true].map(scratch => ({data: {values: values.filter(each => each.scratch === scratch)},
        mark: {type: "rect", strokeWidth: 1, cornerRadius: 1, fill: COLORS[scratch ? 4 : 0], stroke: COLORS[scratch ? 4 : 0],
          fillOpacity: .28, strokeDash: scratch ? [3, 2] : [1, 0]},
        encoding: {x, x2: {field: "to"}, y, y2: {field: "high"}, tooltip: {field: "tip", type: "nominal"}}})),
      {data: {values}, transform: [{filter: "datum.label"}, {calculate: "(datum.from + datum.to) / 2", as: "middle"},
        {calculate: "(datum.low + datum.high) / 2", as: "center"}], mark: {type: "text", fontSize: 10},
        encoding: {x: {...x, field: "middle"}, y: {...y, field: "center"}, text: {field: "label"}}},
      {data: {values: [{top: data.bytes / 1024}]}, mark: {type: "rule", color: INK, strokeDash: [5, 3]}, encoding: {y: {...y, field: "top"}}}]});
  };
  draw();
  return draw;
}

// Trends: a small plot a figure, by run

const runs = JSON.parse(document.getElementById("runs").textContent);

function trend(series, width) {
  const values = series.points.map(([run, value, source, ends, passed]) => ({run, value, low: ends?.[0], high: ends?.[1], guess: source === "estimated", lost: passed === false,
    tip: told([`${value} ${series.unit} (${source})`, runs[run][0].replace("T", " ").replace("Z", " UTC"),
      `${runs[run][1].slice(0, 10)} ${runs[run][2]}`.trim(), passed === false && "did not pass"])}));
  const x = {field: "run", type: "quantitative", scale: {zero: false, nice: false, padding: 6}, axis: {title: null, labels: false, ticks: false, grid: false}};
  const y = {field: "value", type: "quantitative", scale: {zero: false, padding: 8}, axis: {title: null, tickCount: 3, ...(series.unit ? {} : {format: "~s"})}};
  return {title: `${series.name}${series.unit ? `, ${series.unit}` : ""}`, width, height: 90, data: {values}, layer: [
    {transform: [{filter: "isValid(datum.low)"}], mark: {type: "rule", opacity: .3, color: COLORS[0]}, encoding: {x, y: {field: "low", type: "quantitative"}, y2: {field: "high"}}},
    {mark: {type: "line", color: COLORS[0], strokeWidth: 1.5}, encoding: {x, y}},
    {mark: {type: "point", size: 36, opacity: 1, strokeWidth: 1.5}, encoding: {x, y,
      fill: {condition: {test: "datum.lost", value: COLORS[1]}, value: COLORS[0]}, fillOpacity: {condition: {test: "datum.guess", value: 0}, value: 1},
      stroke: {condition: {test: "datum.lost", value: COLORS[1]}, value: COLORS[0]}, strokeDash: {condition: {test: "datum.guess", value: [2, 2]}, value: [1, 0]},
      shape: {condition: {test: "datum.lost", value: "triangle-down"}, value: "circle"}, tooltip: {field: "tip", type: "nominal"}}}]};
}

function trends(place, data) {
  const chart = place.appendChild(make("div"));
  const draw = () => {
    const across = Math.max(1, Math.min(data.length, Math.floor(place.clientWidth / 280)));
    chart.style.cssText = `display:grid;grid-template-columns:repeat(${across},minmax(0,1fr));gap:1rem 1.5rem`;
    chart.replaceChildren();
    for (const series of data) {
      const one = chart.appendChild(make("div"));
      paint(one, trend(series, Math.max(120, one.clientWidth - 56)));
    }
  };
  draw();
  return draw;
}

const KINDS = {tradeoff, layers, arena, trends}, drawn = new Map();

function show(place) {
  if (drawn.has(place) || !library()) return;
  const text = place.querySelector("script"), data = text && JSON.parse(text.textContent);
  drawn.set(place, {width: place.clientWidth, again: KINDS[place.dataset.kind](place, data)});
  place.dataset.drawn = "yes";
}

const seen = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); show(entry.target); }
}, {rootMargin: "300px"});
all(".plot").forEach(place => seen.observe(place));

let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    for (const [place, plot] of drawn) if (place.clientWidth && Math.abs(place.clientWidth - plot.width) > 8) {
      plot.width = place.clientWidth; plot.again();
    }
  }, 150);
});

let closed = [];
addEventListener("beforeprint", () => {
  JOBS.forEach(fill);
  closed = all("details:not([open])");
  closed.forEach(each => each.open = true);
  all(".plot").forEach(show);
});
addEventListener("afterprint", () => closed.forEach(each => each.open = false));

JOBS.filter(each => each.open).forEach(fill);
reveal();
addEventListener("load", () => setTimeout(() => requestIdleCallback(fillRest), 1000));
document.documentElement.dataset.ready = "yes";
})();
