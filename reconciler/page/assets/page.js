"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const shown = { left: true, range: true, marks: true, trim: false, sets: data.sets.map(() => true) };
  const POINTS_A_PIXEL = 2; // more points than this are drawn as the lowest, highest and mean of each column

  // --- data ----------------------------------------------------------------------------------------------------------

  function bytes(text) {
    const raw = atob(text);
    const made = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) made[i] = raw.charCodeAt(i);
    return made.buffer;
  }

  // A lane is one line: runs one after the other, each with a gap before it. NaN stands for no number.
  function laneOf(runs) {
    const size = runs.reduce((sum, run) => sum + run.n + 1, 0);
    const lane = { way: runs[0].way, runs: runs, n: 0, x: new Float64Array(size) };
    for (const name of ["mean", "low", "high", "rate"]) lane[name] = new Float32Array(size);
    for (const run of runs) {
      if (!run.n) continue;
      const at = new Uint32Array(bytes(run.at));
      if (lane.n && run.begins > lane.x[lane.n - 1]) {
        lane.x[lane.n] = run.begins;
        for (const name of ["mean", "low", "high", "rate"]) lane[name][lane.n] = NaN;
        lane.n++;
      }
      run.from = lane.n;
      for (let i = 0; i < run.n; i++) lane.x[lane.n + i] = run.begins + at[i] * run.per;
      for (const name of ["mean", "low", "high", "rate"]) lane[name].set(new Float32Array(bytes(run[name])), lane.n);
      lane.n += run.n;
      run.to = lane.n;
      run.at = run.mean = run.low = run.high = run.rate = null;
    }
    return lane;
  }

  const lanes = data.lanes.map(laneOf);
  const runs = data.lanes.flat();
  const ordered = runs.slice().sort((a, b) => a.begins - b.begins);
  const declared = runs.map((run) => ({ way: run.way, points: run.declared })).concat(
    data.planned.map((each) => ({ way: true, points: each.points })));
  const sets = data.sets.map((name) => {
    const of = (way) => runs.filter((run) => run.way === way).flatMap((run) => run.losses[name] || []).sort((a, b) => a[0] - b[0]);
    const [way, left] = [of(true), of(false)];
    const [line, ...again] = layers(way); // a source that was evaluated again stands beside its line
    return { name: name, line: line || [], beside: again, left: layers(left), all: way.concat(left), way: way };
  });

  // Points in as few groups as there are at one place: a line has one value there.
  function layers(points) {
    const made = [];
    for (const each of points) {
      const free = made.find((layer) => layer[layer.length - 1][0] < each[0]);
      if (free) free.push(each); else made.push([each]);
    }
    return made;
  }
  let whole = [Infinity, -Infinity];
  for (const lane of lanes) {
    if (lane.n) whole = [Math.min(whole[0], lane.x[0]), Math.max(whole[1], lane.x[lane.n - 1])];
  }
  for (const set of sets) for (const [x] of set.way) whole = [Math.min(whole[0], x), Math.max(whole[1], x)];
  let reach = whole.slice(); // with what is declared and still to come
  for (const each of declared) for (const [x] of each.points) reach = [Math.min(reach[0], x), Math.max(reach[1], x)];
  if (!(reach[1] > reach[0])) reach = [0, 1];
  if (!(whole[1] > whole[0])) whole = reach.slice(); // nothing is logged
  let view = whole.slice();

  function lowerBound(x, n, value) {
    let low = 0, high = n;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x[middle] < value) low = middle + 1; else high = middle;
    }
    return low;
  }

  const orNull = (value) => (value === value ? value : null);

  // What a lane shows between two places: its points, or where they are more than pixels, one for each column.
  function cut(lane, from, to, width) {
    const first = Math.max(0, lowerBound(lane.x, lane.n, from) - 1);
    const last = Math.min(lane.n, lowerBound(lane.x, lane.n, to) + 1);
    const out = { x: [], mean: [], low: [], high: [], rate: [] };
    if (last - first <= width * POINTS_A_PIXEL) {
      for (let i = first; i < last; i++) {
        out.x.push(lane.x[i]);
        for (const name of ["mean", "low", "high", "rate"]) out[name].push(orNull(lane[name][i]));
      }
      return out;
    }
    const step = (to - from) / width;
    for (let i = first; i < last;) {
      const end = lane.x[i] + step;
      let low = Infinity, high = -Infinity, sum = 0, count = 0, rate = NaN, gap = false, j = i;
      for (; j < last && lane.x[j] < end; j++) {
        const mean = lane.mean[j];
        if (mean === mean) { sum += mean; count++; } else if (lane.rate[j] !== lane.rate[j]) { gap = true; }
        if (lane.low[j] < low) low = lane.low[j];
        if (lane.high[j] > high) high = lane.high[j];
        if (lane.rate[j] === lane.rate[j]) rate = lane.rate[j];
      }
      if (gap) {
        out.x.push(lane.x[i]);
        for (const name of ["mean", "low", "high", "rate"]) out[name].push(null);
      }
      const x = lane.x[j - 1];
      if (!gap || x > lane.x[i]) {
        out.x.push(x);
        out.mean.push(count ? sum / count : null);
        out.low.push(low < Infinity ? low : null);
        out.high.push(high > -Infinity ? high : null);
        out.rate.push(orNull(rate));
      }
      i = j;
    }
    return out;
  }

  // --- words ---------------------------------------------------------------------------------------------------------

  function tokens(value) {
    for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]]) {
      if (Math.abs(value) >= size) return +(value / size).toPrecision(3) + unit;
    }
    return String(Math.round(value));
  }
  const short = (value) => (value === null || value === undefined ? "none" : +(+value).toPrecision(4) + "");

  // --- charts --------------------------------------------------------------------------------------------------------

  let colour = {};
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    colour = new Proxy({}, { get: (_, name) => style.getPropertyValue("--" + name).trim() });
  }
  readColours();

  const charts = {};
  const sync = uPlot.sync("report");
  const visible = (lane) => lane.n > 0 && (lane.way || shown.left);
  const below = lanes.filter((lane) => !lane.way).concat(lanes.filter((lane) => lane.way)); // in the order they are drawn

  function lossTables(width) {
    return below.filter(visible).map((lane) => {
      const part = cut(lane, view[0], view[1], width);
      return shown.range ? [part.x, part.low, part.high, part.mean] : [part.x, part.mean];
    });
  }
  function rateTables(width) {
    const drawn = below.filter(visible).map((lane) => {
      const part = cut(lane, view[0], view[1], width);
      return [part.x, part.rate];
    });
    return drawn.concat(declared.filter((each) => (each.way || shown.left) && each.points.length).map(
      (each) => [each.points.map((p) => p[0]), each.points.map((p) => p[1])]));
  }
  const layersOf = (set) => [set.line, ...set.beside, ...(shown.left ? set.left : [])].filter((layer) => layer.length);
  function lossesOf(points) {
    return [points.map((p) => p[0]), points.map((p) => p[1])];
  }
  function validationTables() {
    const tables = [];
    sets.forEach((set, i) => {
      if (!shown.sets[i]) return;
      for (const layer of layersOf(set)) tables.push(lossesOf(layer));
    });
    return tables;
  }

  function lossSeries() {
    return below.filter(visible).flatMap((lane) => {
      const line = lane.way ? colour.blue : colour.faint;
      const of = lane.way ? "" : ", strategy left";
      const mean = { label: "mean" + of, stroke: line, width: 1.5, points: { show: few(lane) } };
      const edge = { stroke: "transparent", width: 0, points: { show: false } };
      return shown.range ? [{ ...edge, label: "lowest" + of }, { ...edge, label: "highest" + of }, mean] : [mean]; // the line over its range
    });
  }
  const few = (lane) => lane.n < 60;
  function lossBands() {
    return shown.range ? below.filter(visible).map((lane, i) => ({ series: [i * 3 + 2, i * 3 + 1], fill: lane.way ? colour.range : colour.aside })) : [];
  }
  function rateSeries() {
    const drawn = below.filter(visible).map((lane) => (
      { label: lane.way ? "logged" : "logged, strategy left", stroke: lane.way ? colour.rate : colour.aside, width: 5, points: { show: false } }));
    return drawn.concat(declared.filter((each) => (each.way || shown.left) && each.points.length).map((each) => (
      { label: "declared", stroke: each.way ? colour.ink : colour.faint, width: 1.2, dash: [5, 4], points: { show: false } })));
  }
  function validationSeries() {
    const made = [];
    sets.forEach((set, i) => {
      if (shown.sets[i]) {
        const hue = colour["hue-" + (i % 8)];
        const shape = { stroke: hue, points: { show: true, size: 7, width: 1.5 } };
        for (const layer of layersOf(set)) {
          if (layer === set.line) made.push({ ...shape, label: set.name, width: 1.5, points: { ...shape.points, fill: hue } });
          else made.push({ ...shape, label: set.name + (set.left.includes(layer) ? ", strategy left" : ", again"), width: 0, paths: () => null, points: { ...shape.points, stroke: hue, fill: colour.ground } });
        }
      }
    });
    return made;
  }

  function joined(tables) {
    return tables.length ? uPlot.join(tables, tables.map((t) => t.map(() => 1))) : [[view[0], view[1]]];
  }

  function bounds(chart, low, high) {
    if (low === null || high === null || low === undefined) return [0, 1];
    if (chart && chart === charts.validation) {
      for (const [, , bound] of limits()) high = Math.max(high, bound);
    }
    if (shown.trim && chart === charts.loss) {
      const all = [];
      lanes.filter(visible).forEach((lane) => cut(lane, view[0], view[1], 400).mean.forEach((v) => v !== null && all.push(v)));
      all.sort((a, b) => a - b);
      if (all.length > 20) {
        low = all[Math.floor(all.length * 0.01)];
        high = all[Math.ceil(all.length * 0.97) - 1];
      }
    }
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - room, high + room];
  }

  // Of the validation sets that are shown: (run, number of the set, loss above which too much is forgotten).
  function limits() {
    if (!shown.marks) return [];
    return runs.filter((run) => run.way && run.begins < view[1] && endOf(run) > view[0]).flatMap((run) =>
      sets.map((set, i) => [run, i, run.bounds[set.name]]).filter((each) => shown.sets[each[1]] && each[2] !== undefined));
  }
  const endOf = (run) => (run.declared.length ? run.declared[run.declared.length - 1][0] : run.begins);

  function drawLimits(u) {
    const { ctx } = u;
    const dots = u.pxRatio || devicePixelRatio;
    ctx.save();
    ctx.setLineDash([2 * dots, 3 * dots]);
    ctx.lineWidth = 1.5 * dots;
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    for (const [run, i, bound] of limits()) {
      const y = Math.round(u.valToPos(bound, "y", true)) + 0.5;
      ctx.strokeStyle = colour["hue-" + (i % 8)];
      ctx.beginPath();
      ctx.moveTo(u.valToPos(run.begins, "x", true), y);
      ctx.lineTo(u.valToPos(endOf(run), "x", true), y);
      ctx.stroke();
    }
    ctx.restore();
  }

  // Where stages begin, mixtures switch, gates were judged and checkpoints lie, over the lines of a chart.
  function drawMarks(u) {
    if (!shown.marks) return;
    const { ctx, bbox } = u;
    const dots = u.pxRatio || devicePixelRatio;
    let free = bbox.left; // where no name stands yet
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left - 6 * dots, bbox.top - 1, bbox.width + 12 * dots, bbox.height + 2);
    ctx.clip();
    for (const run of ordered) {
      if (!run.way && !shown.left) continue;
      for (const [at, kind] of run.marks) {
        const x = Math.round(u.valToPos(at, "x", true)) + 0.5;
        if (x < bbox.left - 9 || x > bbox.left + bbox.width + 9) continue;
        ctx.setLineDash(kind === "switch" ? [5 * dots, 4 * dots] : []);
        ctx.strokeStyle = ctx.fillStyle = { pass: colour.green, warn: colour.amber, fail: colour.red, checkpoint: colour.violet }[kind] || colour.faint;
        ctx.lineWidth = dots;
        ctx.beginPath();
        const top = bbox.top + (run.way ? 0 : 12 * dots), bottom = bbox.top + bbox.height;
        if (kind === "checkpoint") {
          ctx.moveTo(x, bottom); ctx.lineTo(x, bottom - 6 * dots); ctx.stroke();
        } else if (kind === "stage" || kind === "switch") {
          ctx.globalAlpha = run.way ? 0.7 : 0.35;
          ctx.moveTo(x, top); ctx.lineTo(x, bottom); ctx.stroke();
          ctx.globalAlpha = 1;
          if (kind === "stage" && run.way && u === (charts.loss || charts.rate) && x + 4 * dots >= free) {
            ctx.font = 12 * dots + "px system-ui, sans-serif";
            ctx.textBaseline = "top";
            ctx.textAlign = "left";
            ctx.fillText(run.stage, x + 8 * dots, top + 2 * dots);
            free = x + 14 * dots + ctx.measureText(run.stage).width;
          }
        } else if (kind === "fail") {
          ctx.moveTo(x, top + 2 * dots); ctx.lineTo(x + 5 * dots, top + 11 * dots); ctx.lineTo(x - 5 * dots, top + 11 * dots); ctx.fill();
        } else {
          ctx.arc(x, top + 7 * dots, 4.5 * dots, 0, 7); ctx.fill();
        }
      }
    }
    ctx.restore();
  }

  function axis(values, size) {
    return { stroke: colour.faint, grid: { stroke: colour.grid, width: 1 }, ticks: { show: false }, values: values, size: size, font: "12px system-ui, sans-serif" };
  }

  function make(name, series, bands, tables) {
    const holder = byId(name);
    if (!holder) return;
    if (charts[name]) charts[name].destroy();
    const options = {
      width: Math.max(120, holder.clientWidth),
      height: Math.max(80, holder.clientHeight),
      legend: { show: false },
      padding: [8, 12, 0, 0],
      cursor: { sync: { key: sync.key, setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { show: name === "loss", size: 7 }, y: false },
      scales: { x: { time: false, range: () => view }, y: { range: (u, low, high) => bounds(u, low, high) } },
      axes: [{ ...axis((u, at) => at.map(tokens), 28), space: 70 }, axis((u, at) => at.map((v) => +v.toPrecision(6)), 56)],
      series: [{}, ...series],
      bands: bands,
      hooks: {
        draw: name === "validation" ? [drawMarks, drawLimits] : [drawMarks],
        setCursor: [(u) => u.cursor.event && read(u)],
        setSelect: [(u) => {
          if (u.select.width > 3) show(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
      },
    };
    charts[name] = new uPlot(options, joined(tables), holder);
    holder.dataset.points = String(lanes.reduce((sum, lane) => sum + runsPoints(lane), 0));
    if (name === "validation") holder.dataset.points = String(sets.reduce((sum, set) => sum + set.all.length, 0));
  }
  const runsPoints = (lane) => lane.runs.reduce((sum, run) => sum + run.n, 0);

  function build() {
    const width = Math.max(120, byId("rate").clientWidth);
    make("loss", lossSeries(), lossBands(), lossTables(width));
    make("rate", rateSeries(), [], rateTables(width));
    make("validation", validationSeries(), [], validationTables());
  }
  function refill() {
    const width = Math.max(120, byId("rate").clientWidth);
    if (charts.loss) charts.loss.setData(joined(lossTables(width)));
    charts.rate.setData(joined(rateTables(width)));
    if (charts.validation) charts.validation.setData(joined(validationTables()));
    if (at !== null && at >= view[0] && at <= view[1]) pointThere();
  }

  let waiting = 0;
  let at = null; // where the keys have come to
  function show(from, to) {
    const least = Math.max(1, (reach[1] - reach[0]) / 1e6);
    const width = Math.min(Math.max(to - from, least), reach[1] - reach[0]);
    from = Math.min(Math.max(from, reach[0]), reach[1] - width);
    view = [from, from + width];
    if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; refill(); });
    keep();
  }
  const pan = (share) => { const by = (view[1] - view[0]) * share; show(view[0] + by, view[1] + by); };
  function zoom(factor, about) {
    const at = about === undefined ? (view[0] + view[1]) / 2 : about;
    show(at - (at - view[0]) * factor, at + (view[1] - at) * factor);
  }

  // --- what is under the cursor --------------------------------------------------------------------------------------

  function nearest(lane, x) {
    const i = lowerBound(lane.x, lane.n, x);
    return i > 0 && (i === lane.n || x - lane.x[i - 1] < lane.x[i] - x) ? i - 1 : i;
  }
  function rateDeclared(run, i) {
    const stray = run.strays.find((each) => each[0] === i - run.from);
    return stray ? ", declared " + short(stray[1]) : " as declared";
  }
  function words(x) {
    const parts = [tokens(x) + " tokens"];
    for (const lane of lanes.filter(visible)) {
      const i = nearest(lane, x);
      const run = lane.runs.find((each) => each.n && i >= each.from && i < each.to);
      if (!run || Math.abs(lane.x[i] - x) > (view[1] - view[0]) / 20) continue;
      const told = [run.stage + " " + run.strategy, "loss " + short(orNull(lane.mean[i]))];
      if (lane.low[i] < lane.high[i]) told.push("(" + short(lane.low[i]) + " to " + short(lane.high[i]) + ")");
      told.push("LR " + short(lane.rate[i]) + rateDeclared(run, i));
      parts.push(told.join(" "));
    }
    sets.forEach((set, i) => {
      const near = (shown.left ? set.all : set.way).filter((each) => Math.abs(each[0] - x) < (view[1] - view[0]) / 80)
        .sort((a, b) => Math.abs(a[0] - x) - Math.abs(b[0] - x)).filter((each, _, all) => each[0] === all[0][0]);
      if (!near.length || !shown.sets[i]) return;
      parts.push(set.name + " " + near.map((each) => short(each[1]) + " " + each[2]).join(" and "));
      const run = ordered.filter((each) => each.way && each.begins < x && x <= endOf(each)).pop();
      if (run && run.bounds[set.name] !== undefined) parts.push("fails above " + short(run.bounds[set.name]));
    });
    if (shown.marks) {
      const close = (view[1] - view[0]) / 150;
      const marks = runs.filter((run) => run.way || shown.left).flatMap((run) => run.marks)
        .filter((mark) => Math.abs(mark[0] - x) < close && mark[1] !== "stage");
      for (const mark of marks.slice(0, 3)) parts.push(mark[2]);
    }
    return parts.join(" · ");
  }
  function read(u) {
    if (u.cursor.left === null || u.cursor.left < 0) return;
    byId("readout").textContent = words(u.posToVal(u.cursor.left, "x"));
  }
  function step(by) {
    const main = lanes.filter(visible).sort((a, b) => b.n - a.n)[0];
    if (!main) return;
    if (at === null || at < view[0] || at > view[1]) at = by > 0 ? view[0] : view[1];
    let i = nearest(main, at);
    const skip = Math.max(1, Math.round((lowerBound(main.x, main.n, view[1]) - lowerBound(main.x, main.n, view[0])) / 200));
    if (main.x[i] !== at && ((by > 0) === (main.x[i] > at))) by = 0;
    i = Math.min(main.n - 1, Math.max(0, i + by * skip));
    point(main.x[i]);
  }
  function pointThere() {
    for (const chart of Object.values(charts)) chart.setCursor({ left: chart.valToPos(at, "x"), top: 10 });
  }
  function point(x) {
    at = Math.min(view[1], Math.max(view[0], x));
    pointThere();
    byId("readout").textContent = words(at);
  }

  // --- hands ---------------------------------------------------------------------------------------------------------

  const does = { earlier: () => pan(-0.25), later: () => pan(0.25), in: () => zoom(0.5), out: () => zoom(2), all: () => show(whole[0], whole[1]) };

  function keys(event) {
    const arrow = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrow) { if (event.shiftKey) pan(arrow * 0.25); else step(arrow); }
    else if (event.key === "Home") point(view[0]);
    else if (event.key === "End") point(view[1]);
    else if (event.key === "+" || event.key === "=") zoom(0.5, at === null ? undefined : at);
    else if (event.key === "-") zoom(2, at === null ? undefined : at);
    else if (event.key === "0") does.all();
    else return;
    event.preventDefault();
  }

  function hand(holder) {
    holder.addEventListener("keydown", keys);
    holder.addEventListener("dblclick", does.all);
    holder.addEventListener("wheel", (event) => {
      if (event.ctrlKey) zoom(event.deltaY > 0 ? 1.25 : 0.8, charts[holder.id].posToVal(event.clientX - charts[holder.id].over.getBoundingClientRect().left, "x"));
      else if (event.deltaX || event.shiftKey) pan((event.deltaX || event.deltaY) / holder.clientWidth);
      else return;
      event.preventDefault();
    }, { passive: false });
    let from = null;
    holder.addEventListener("pointerdown", (event) => {
      if (!event.shiftKey && event.pointerType !== "touch") return;
      from = { x: event.clientX, view: view.slice() };
      holder.setPointerCapture(event.pointerId);
    }, true);
    holder.addEventListener("mousedown", (event) => { if (from) event.stopPropagation(); }, true);
    holder.addEventListener("pointermove", (event) => {
      if (!from) return;
      const by = ((from.x - event.clientX) / charts[holder.id].over.clientWidth) * (from.view[1] - from.view[0]);
      show(from.view[0] + by, from.view[1] + by);
    }, true);
    for (const end of ["pointerup", "pointercancel"]) holder.addEventListener(end, () => { from = null; }, true);
  }

  function press(button) {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    if (button.dataset.set !== undefined) shown.sets[Number(button.dataset.set)] = on;
    else shown[button.dataset.show] = on;
    build();
    keep();
  }

  function choose(stage) {
    const some = runs.filter((run) => run.stage === stage);
    const ends = some.flatMap((run) => [run.begins, ...run.declared.map((p) => p[0])]);
    data.planned.filter((each) => each.stage === stage).forEach((each) => ends.push(...each.points.map((p) => p[0])));
    if (!stage || !ends.length) return does.all();
    const from = Math.min(...ends), to = Math.max(...ends), room = (to - from) * 0.02;
    show(from - room, to + room);
  }

  // --- kept over a refresh ---------------------------------------------------------------------------------------------

  const KEPT = "report:" + document.title.split(":")[0];
  function keep() {
    if (!data.refresh) return;
    const open = [...document.querySelectorAll("details")].map((each) => each.open);
    const focus = document.activeElement && focusable().indexOf(document.activeElement);
    const atAll = view[0] === whole[0] && view[1] === whole[1];
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ open: open, focus: focus, scroll: scrollY, view: atAll ? null : view, shown: shown }));
    } catch (full) { /* then a refresh begins at the top */ }
  }
  const focusable = () => [...document.querySelectorAll("a[href], button, select, summary, [tabindex]")];
  function restore() {
    let was = null;
    try { was = JSON.parse(sessionStorage.getItem(KEPT) || "null"); sessionStorage.removeItem(KEPT); } catch (none) { /* none */ }
    if (!was) return;
    const details = [...document.querySelectorAll("details")];
    if (was.open.length === details.length) details.forEach((each, i) => { each.open = was.open[i]; });
    if (charts.rate) {
      Object.assign(shown, was.shown, { sets: was.shown.sets.length === sets.length ? was.shown.sets : shown.sets });
      document.querySelectorAll("button[aria-pressed]").forEach((button) => {
        const on = button.dataset.set !== undefined ? shown.sets[Number(button.dataset.set)] : shown[button.dataset.show];
        button.setAttribute("aria-pressed", String(on));
      });
      build();
      if (was.view) show(was.view[0], was.view[1]);
    }
    const element = focusable()[was.focus];
    if (element) element.focus({ preventScroll: true });
    scrollTo({ top: was.scroll, behavior: "instant" });
  }

  async function news() {
    let told = "";
    try {
      const answer = await fetch("news", { cache: "no-store" });
      const body = await answer.json();
      if (body.page !== document.documentElement.dataset.page) { keep(); location.reload(); return; }
      byId("looked").textContent = body.looked_at;
      told = body.trouble;
    } catch (gone) {
      told = "The server of this page has ended; what is shown is as it was.";
    }
    const line = byId("news");
    line.textContent = told;
    line.classList.toggle("told", Boolean(told));
  }

  // --- begin ---------------------------------------------------------------------------------------------------------

  if (byId("rate")) {
    build();
    for (const holder of document.querySelectorAll(".chart")) hand(holder);
    for (const button of document.querySelectorAll("button[data-do]")) button.addEventListener("click", () => does[button.dataset.do]());
    for (const button of document.querySelectorAll("button[aria-pressed]")) button.addEventListener("click", () => press(button));
    byId("part").addEventListener("change", (event) => choose(event.target.value));
    let wide = byId("charts").clientWidth;
    new ResizeObserver(() => {
      if (byId("charts").clientWidth !== wide) { wide = byId("charts").clientWidth; build(); }
    }).observe(byId("charts"));
    const again = () => { readColours(); build(); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    matchMedia("print").addEventListener("change", again);
  }
  let closed = []; // of the stages, for as long as the page is printed
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details.stage:not([open])")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of closed) each.open = false; });
  restore();
  if (data.refresh) setInterval(news, data.refresh * 1000);
  window.report = { charts: charts, lanes: lanes, view: () => view.slice(), show: show, words: words };
})();
