(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("drawings").textContent);
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const hidden = new Set();
  const hiddenRuns = new Set();
  // What fits on a sheet of A4 or Letter, all of it or in two columns. A page learns that
  // it is printed before it is laid out for that, so its width cannot be asked for.
  const PAPER = { wide: 650, narrow: 310 };
  const isWide = (place) => place.parentElement.matches(".wide");
  let printing = false;

  const dark = () => !printing && (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const look = () => dark()
    ? { ink: "#e6e9ed", soft: "#9aa4b0", line: "#272d35", card: "#14171c" }
    : { ink: "#1b2026", soft: "#59626d", line: "#e2e5e9", card: "#ffffff" };
  const colour = (subject) => page.subjects[subject][dark() ? "dark" : "light"];
  const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  // Ink on a bar of ink is not seen.
  const alike = (one, other) => channels(one).every((value, at) => Math.abs(value - channels(other)[at]) < 60);
  const faint = (hex, alpha) =>
    `rgba(${channels(hex).join(",")},${alpha})`;
  const several = page.runs.length > 1;
  // Of several runs the dashes tell which; of one, they help to tell the servers.
  const dash = (meta) => several ? page.runs[meta.run].dash : page.subjects[meta.subject].dash;
  const shown = (trace) => !hidden.has(trace.meta.subject) && !hiddenRuns.has(trace.meta.run);
  // In a text plotly reads tags and entities.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shorten = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;

  // One row for each server (and run) that is shown, in the order of the page.
  const rowsOf = (traces) => {
    const rows = new Map();
    for (const { meta } of traces) rows.set(`${meta.subject} ${meta.run}`, meta);
    return rows;
  };
  const nameOf = (meta, most) => plain(shorten(page.subjects[meta.subject].name, most));

  function paintTrace(trace, now) {
    const own = colour(trace.meta.subject);
    const symbol = page.subjects[trace.meta.subject].symbol;
    const label = { bgcolor: now.card, bordercolor: own, font: { color: now.ink }, align: "left" };
    const painted = { ...trace, visible: shown(trace), showlegend: false, hoverlabel: label };
    const pattern = page.runs[trace.meta.run].pattern;
    switch (trace.meta.role) {
      case "bar":
        painted.marker = { color: own, pattern: { shape: several ? pattern : "", fgcolor: now.card, bgcolor: own, size: 6, solidity: 0.35 } };
        painted.error_x = { ...trace.error_x, color: alike(own, now.ink) ? now.soft : now.ink, thickness: 1.25, width: 4 };
        break;
      case "figure":
        painted.textfont = { color: now.ink, size: 12 };
        painted.text = trace.text.map((text) => text.split("<br>").map((line) => `  ${line}`).join("<br>"));
        break;
      case "line":
        painted.line = { ...trace.line, color: own, width: 2, dash: dash(trace.meta) };
        painted.marker = { color: own, symbol, size: 9, line: { color: now.card, width: 0.75 } };
        if (trace.error_y) painted.error_y = { ...trace.error_y, color: own, thickness: 1, width: 3 };
        break;
      case "mark":
        painted.marker = { color: own, symbol, size: 10, line: { color: now.card, width: 0.75 } };
        break;
      case "waited":
        painted.marker = { color: faint(own, dark() ? 0.38 : 0.28), line: { width: 0 } };
        break;
      case "served":
        painted.marker = { color: own, line: { width: 0 } };
        break;
      case "reply":
        painted.marker = { color: now.ink, symbol: "line-ns", line: { color: now.ink, width: 1.5 } };
        break;
      case "never":
        painted.marker = { color: now.ink, symbol: "x-thin", size: 6, line: { color: now.ink, width: 1.5 } };
        break;
    }
    return painted;
  }

  const axis = (now, more) => ({
    gridcolor: now.line, linecolor: now.line, zerolinecolor: now.line, tickcolor: now.line,
    tickfont: { color: now.soft, size: 12 }, fixedrange: true, zeroline: false, ...more,
  });

  // Figures on the axes are said as they are in the table.
  const UNITS = {
    amount: [["M", 1e6], ["k", 1e3], ["", 1]],
    seconds: [["s", 1], ["ms", 1e-3], ["µs", 1e-6], ["ns", 1e-9]],
    bytes: [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]],
  };
  function say(unit, amount) {
    if (!amount) return "0";
    const [word, by] = UNITS[unit].find(([, one]) => amount >= one * 0.9999) || UNITS[unit].at(-1);
    return `${+(amount / by).toPrecision(4)} ${word}`.trim();
  }
  const ticksAt = (unit, values) => ({ tickmode: "array", tickvals: values, ticktext: values.map((one) => say(unit, one)), tickangle: 0 });
  function evenTicks(unit, most, many) {
    const rough = (most || 1) / many;
    const power = unit === "bytes" ? 2 ** Math.ceil(Math.log2(rough)) : 10 ** Math.floor(Math.log10(rough));
    const step = unit === "bytes" ? power : power * [1, 2, 5, 10].find((one) => one * power >= rough * 0.999);
    return ticksAt(unit, Array.from({ length: Math.floor(most / step + 1.001) }, (_, at) => at * step));
  }
  function logAxis(unit, values) {
    let low = Math.log10(Math.min(...values, 1e9));
    let high = Math.log10(Math.max(...values, 1e-9));
    if (low > high) [low, high] = [-4, -1];
    // What hardly differs shall look so.
    const more = Math.max(0.04 * (high - low), (0.7 - (high - low)) / 2, 0.03);
    [low, high] = [low - more, high + more];
    const span = high - low;
    const steps = span > 3.2 ? [1] : span > 0.9 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const step of steps) {
        const value = step * 10 ** power;
        if (Math.log10(value) >= low && Math.log10(value) <= high) ticks.push(value);
      }
    }
    return { type: "log", range: [low, high], ...ticksAt(unit, ticks) };
  }

  // The bars of one server stand together, those of its runs within.
  function layBars(drawing, traces, width, now) {
    const rows = [...rowsOf(traces.filter(shown)).values()];
    const subjects = [...new Set(rows.map((meta) => meta.subject))];
    const runs = [...new Set(rows.map((meta) => meta.run))].sort();
    const thick = 0.72 / Math.max(runs.length, 1);
    const names = subjects.map((subject) => nameOf({ subject }, 14));
    const left = 14 + 7.2 * Math.max(4, ...subjects.map((one) => Math.min(14, page.subjects[one].name.length)));
    const wide = Math.max(width - left - 8, 60);
    let most = drawing.layout.xaxis.planned || 0;
    // So far that behind each bar there is room for its figure.
    let end = most * 1.05;
    for (const trace of traces) {
      if (!shown(trace)) continue;
      const at = subjects.indexOf(trace.meta.subject);
      trace.y = [at + (runs.indexOf(trace.meta.run) - (runs.length - 1) / 2) * thick];
      if (trace.meta.role === "bar") {
        trace.width = [thick * 0.9];
        most = Math.max(most, trace.x[0] + trace.error_x.array[0]);
      } else {
        end = Math.max(end, trace.x[0] / (1 - Math.min(trace.meta.length * 6.7 + 18, wide * 0.6) / wide));
      }
    }
    end = end || 1;
    const beside = width < (printing ? 400 : innerWidth * 0.6);
    const { planned } = drawing.layout.xaxis;
    return {
      // As high as the lines beside it, if it stands beside any.
      height: 34 + Math.max(subjects.length, 1) * Math.max(runs.length * 20, Math.min(beside ? 48 : 32, Math.max(32, (lineHeight(width) - 34) / subjects.length))),
      margin: { l: left, r: 8, t: 4, b: 30 },
      barmode: "overlay",
      hovermode: "closest",
      xaxis: axis(now, { range: [0, end], ...evenTicks(drawing.unit, most, Math.max(1, Math.min(5, (wide * most) / end / 52))) }),
      yaxis: axis(now, {
        range: [subjects.length - 0.5, -0.5], tickvals: subjects.map((_, at) => at), ticktext: names,
        tickfont: { color: now.ink, size: 13 }, showgrid: false, ticks: "",
      }),
      shapes: planned ? [{ type: "line", x0: planned, x1: planned, yref: "paper", y0: 0, y1: 1, line: { color: now.soft, width: 1, dash: "dot" } }] : [],
    };
  }

  const lineHeight = (width) => Math.min(360, Math.max(290, width * 0.62));

  function layLines(drawing, traces, width, now) {
    const { limits, ...x } = drawing.layout.xaxis;
    if (limits) x.range = limits.map(Math.log10);
    const values = traces.filter(shown).flatMap((trace) => trace.y.flatMap((one, at) =>
      trace.error_y ? [one - trace.error_y.arrayminus[at], one + trace.error_y.array[at]] : [one]));
    const most = Math.max(0, ...values);
    const y = drawing.layout.yaxis.type === "log"
      ? logAxis(drawing.unit, values.filter((one) => one > 0))
      : { range: [0, (most || 1) * 1.06], ...evenTicks(drawing.unit, most, 5) };
    if (x.title) x.title = { ...x.title, font: { color: now.soft, size: 12 }, standoff: 6 };
    return {
      height: lineHeight(width),
      margin: { l: 60, r: 16, t: 8, b: x.title ? 46 : 32 },
      hovermode: "closest",
      xaxis: axis(now, { ...x, ticks: "outside", tickangle: 0 }),
      yaxis: axis(now, y),
    };
  }

  // All clients under one another on one time axis; each server's have a band.
  function layTimeline(drawing, traces, width, now) {
    const bands = [...rowsOf(traces.filter(shown)).values()];
    const most = Math.max(1, ...bands.map((meta) => meta.rows));
    const clients = bands.reduce((sum, meta) => sum + meta.rows, 0);
    // Readable, and on paper no longer than a sheet.
    const high = Math.min(Math.max(2, Math.min(7, 88 / most)), printing ? (860 - 14 * bands.length) / Math.max(clients, 1) : 7);
    const gap = 14 / high;
    const starts = new Map();
    let next = 0;
    for (const meta of bands) {
      starts.set(`${meta.subject} ${meta.run}`, next);
      next += meta.rows + gap;
    }
    const total = Math.max(next - gap, 1);
    for (const trace of traces) {
      const start = starts.get(`${trace.meta.subject} ${trace.meta.run}`);
      if (start === undefined) continue;
      trace.y = trace.y.map((row) => row + start);
      if (trace.type === "bar") trace.width = trace.y.map(() => high > 3 ? 0.82 : 1);
      if (trace.meta.role === "reply") trace.marker.size = Math.max(high * 0.9, 3);
    }
    const label = (meta) => nameOf(meta, 14) + (several ? `<br><span style="font-size:11px">${plain(shorten(page.runs[meta.run].name, 14))}</span>` : "");
    const letters = bands.map((meta) => Math.min(14, Math.max(page.subjects[meta.subject].name.length, several ? page.runs[meta.run].name.length : 0)));
    const { limits, ...x } = drawing.layout.xaxis;
    return {
      height: 44 + total * high,
      margin: { l: 14 + 7.2 * Math.max(4, ...letters), r: 14, t: 6, b: 32 },
      barmode: "overlay",
      hovermode: "closest",
      xaxis: axis(now, { ...x, range: limits, ticks: "outside", ...evenTicks("seconds", limits[1], width < 420 ? 4 : 9) }),
      yaxis: axis(now, {
        range: [total - 0.2, -0.8], showgrid: false, ticks: "",
        tickvals: bands.map((meta) => starts.get(`${meta.subject} ${meta.run}`) + (meta.rows - 1) / 2),
        ticktext: bands.map(label), tickfont: { color: now.ink, size: 13 },
      }),
      shapes: bands.slice(1).map((meta) => {
        const y = starts.get(`${meta.subject} ${meta.run}`) - gap / 2 - 0.5;
        return { type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: now.line, width: 1 } };
      }),
    };
  }

  const lay = { bars: layBars, lines: layLines, timeline: layTimeline };

  function paint(drawing) {
    const place = document.getElementById(drawing.id);
    // Of a number of connections that is not chosen: when it is.
    if (place.closest("[hidden]")) return;
    const now = look();
    const width = printing ? PAPER[isWide(place) ? "wide" : "narrow"] : place.clientWidth;
    const traces = drawing.traces.map((trace) => paintTrace(trace, now));
    const layout = {
      width, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
      font: { family: style("--text"), size: 13, color: now.ink }, showlegend: false,
      ...lay[drawing.kind](drawing, traces, width, now),
    };
    drawing.stale = false;
    return Plotly.react(place, traces, layout, { displayModeBar: false, doubleClick: false, showTips: false, scrollZoom: false });
  }

  // Those in sight at once, the others when there is time.
  let waiting = 0;
  function paintStale() {
    const from = (drawing) => {
      const { top, bottom } = document.getElementById(drawing.id).getBoundingClientRect();
      return top > innerHeight ? top - innerHeight : Math.max(0, -bottom);
    };
    const stale = page.drawings.filter((one) => one.stale && !document.getElementById(one.id).closest("[hidden]"));
    stale.sort((one, other) => from(one) - from(other));
    const end = performance.now() + 40;
    while (stale.length && performance.now() < end) paint(stale.shift());
    waiting = stale.length ? setTimeout(paintStale) : 0;
    root.dataset.drawn = stale.length ? "" : "all";
  }
  function repaint() {
    for (const drawing of page.drawings) drawing.stale = true;
    root.dataset.drawn = "";
    clearTimeout(waiting);
    paintStale();
  }

  // The sign of a server as it is in the drawings: its line and its mark.
  const MARKS = {
    circle: "M9 6a4 4 0 1 0 8 0a4 4 0 1 0-8 0", square: "M9.5 2.5h7v7h-7z", diamond: "M13 1l5 5-5 5-5-5z",
    "triangle-up": "M13 1.5l5 8.5h-10z", "triangle-down": "M13 10.5l5-8.5h-10z",
    cross: "M11.3 1.5h3.4v2.8h2.8v3.4h-2.8v2.8h-3.4v-2.8h-2.8v-3.4h2.8z",
    x: "M9 4.4l2.4-2.4 1.6 1.6 1.6-1.6 2.4 2.4-1.6 1.6 1.6 1.6-2.4 2.4-1.6-1.6-1.6 1.6-2.4-2.4 1.6-1.6z",
    star: "M13 .5l1.6 3.6 3.9.4-2.9 2.6.8 3.9-3.4-2-3.4 2 .8-3.9-2.9-2.6 3.9-.4z",
    hexagon: "M10.7 2h4.6l2.3 4-2.3 4h-4.6l-2.3-4z", pentagon: "M13 1l5 3.7-1.9 5.8h-6.2l-1.9-5.8z",
    bowtie: "M8.5 2v8l9-8v8z", hourglass: "M9 1.5h8l-8 9h8z",
  };
  const STROKES = { solid: "", dot: "2 2", dash: "5 3", longdash: "8 3", dashdot: "5 2 2 2", longdashdot: "8 2 2 2" };
  const BOX = '<path fill="var(--card)" d="M8.5 1.5h9v9h-9z"/>';
  const HATCHES = {
    "": '<path d="M8.5 1.5h9v9h-9z"/>', "/": `${BOX}<path d="M8.5 6l4.5-4.5M8.5 10.5l9-9M13 10.5l4.5-4.5"/>`,
    ".": `${BOX}<path stroke-width="2" d="M10 4h2m2 0h2m-6 4h2m2 0h2"/>`, x: `${BOX}<path d="M8.5 1.5l9 9m-9 0l9-9"/>`,
    "-": `${BOX}<path d="M8.5 4.5h9m-9 3h9"/>`,
  };
  for (const swatch of document.querySelectorAll(".swatch")) {
    const subject = page.subjects[swatch.dataset.subject];
    const run = page.runs[swatch.dataset.run];
    const stroke = subject ? `var(--s${swatch.dataset.subject})` : "currentColor";
    const dashes = STROKES[run ? run.dash : several ? "solid" : subject.dash];
    swatch.innerHTML = `<path d="M0 6h26" fill="none" stroke-width="2" stroke-dasharray="${dashes}"/>` +
      (subject ? `<path stroke="none" d="${MARKS[subject.symbol]}"/>` : HATCHES[run.pattern]);
    swatch.style.stroke = stroke;
    swatch.style.fill = stroke;
  }

  function refresh() {
    for (const row of document.querySelectorAll("tr[data-subject]")) {
      row.classList.toggle("off", hidden.has(+row.dataset.subject) || hiddenRuns.has(+row.dataset.run));
    }
    for (const chip of document.querySelectorAll(".chip")) {
      const off = chip.dataset.run === undefined ? hidden.has(+chip.dataset.subject) : hiddenRuns.has(+chip.dataset.run);
      chip.setAttribute("aria-pressed", String(!off));
    }
    document.getElementById("all").hidden = !hidden.size && !hiddenRuns.size;
    repaint();
  }
  for (const chip of document.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      const set = chip.dataset.run === undefined ? hidden : hiddenRuns;
      const which = +(chip.dataset.run ?? chip.dataset.subject);
      if (!set.delete(which)) set.add(which);
      refresh();
    });
  }
  document.getElementById("all").addEventListener("click", () => {
    hidden.clear();
    hiddenRuns.clear();
    refresh();
  });
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    repaint();
  });
  system.addEventListener("change", repaint);
  for (const choice of document.querySelectorAll(".counts input")) {
    choice.addEventListener("change", () => {
      for (const group of document.querySelectorAll(".group")) {
        if (group.dataset.group === choice.name) group.hidden = group.dataset.count !== choice.value;
      }
      paintStale();
    });
  }
  let before = innerWidth;
  addEventListener("resize", () => {
    // A phone's browser hides its address line and calls that a resize.
    if (innerWidth === before || printing) return;
    before = innerWidth;
    repaint();
  });
  addEventListener("beforeprint", () => {
    printing = true;
    for (const all of document.querySelectorAll("details.all")) {
      all.dataset.was = all.open ? "open" : "";
      all.open = true;
    }
    for (const drawing of page.drawings) paint(drawing);
  });
  addEventListener("afterprint", () => {
    printing = false;
    for (const all of document.querySelectorAll("details.all")) all.open = all.dataset.was === "open";
    repaint();
  });
  repaint();
})();
