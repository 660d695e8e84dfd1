// Draws one dashboard: node draw.js shown.json picture.png. Called by draw.py, in a folder with the packages of package.json.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [shown, picture] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const folder = require.resolve("uplot").replace(/dist\/.*/, "dist/");

/** Runs in the page. */
function draw({ title, start, end, panels, latest, trace }) {
  const units = {
    s: (v) => (v >= 86400 ? `${(v / 86400).toFixed(1)} d` : v >= 1 ? `${+v.toFixed(2)} s` : v >= 1e-3 ? `${+(v * 1e3).toFixed(2)} ms` : `${+(v * 1e6).toFixed(1)} µs`),
    percentunit: (v, d) => `${(v * 100).toFixed(d ?? 0)} %`,
    bytes: (v) => `${(v / 2 ** 20).toFixed(1)} MiB`,
    binBps: (v) => `${(v / 2 ** 10).toFixed(0)} KiB/s`,
    reqps: (v) => `${+v.toFixed(2)} req/s`,
    ops: (v) => `${+v.toFixed(2)} ops/s`,
    pps: (v) => `${+v.toFixed(1)} p/s`,
  };
  const plain = (v, d) => (d === null || d === undefined ? `${+v.toFixed(2)}` : v.toFixed(d));
  const written = (unit, v, d) => (units[unit] ?? plain)(v, d);
  const colors = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#8ab8ff", "#ffb357", "#96d98d"];
  const names = { green: "#73bf69", orange: "#ff9830", red: "#f2495c" };
  const [column, row, space] = [62, 30, 8];

  document.body.innerHTML = `<h1>${title}</h1><main></main>`;
  const main = document.querySelector("main");
  let bottom = 0;
  for (const panel of panels) {
    const { x, y, w, h } = panel.place;
    const box = document.createElement(panel.type === "row" ? "h2" : "section");
    const [width, height] = [w * column - space, h * (row + space) - space];
    Object.assign(box.style, { left: `${x * column}px`, top: `${y * (row + space)}px`, width: `${width}px`, height: `${height}px` });
    bottom = Math.max(bottom, y * (row + space) + height);
    main.append(box);
    if (panel.type === "row") {
      box.textContent = panel.title;
      continue;
    }
    box.innerHTML = `<h3>${panel.title}</h3>`;
    if (panel.content) box.insertAdjacentHTML("beforeend", `<p>${panel.content}</p>`);
    if (panel.type === "stat") {
      const last = panel.lines[0]?.values.filter(([, v]) => !Number.isNaN(v) && v !== null).at(-1)?.[1];
      const step = panel.steps.filter(({ value }) => value === null || last >= value).at(-1);
      const text = last === undefined ? "No data" : written(panel.unit, last, panel.decimals);
      box.insertAdjacentHTML("beforeend", `<strong style="color:${names[step?.color] ?? "#ccc"}">${text}</strong>`);
      continue;
    }
    if (panel.type === "table") {
      const rows = latest.map(({ id, spans, took }) => `<tr><td>${id}<td>voiceping-gateway: ptt-start<td>${spans} spans<td>${written("s", took)}`);
      box.insertAdjacentHTML("beforeend", `<table>${rows.join("")}</table>`);
      continue;
    }
    if (panel.type === "traces") {
      const whole = Math.max(...trace.map((span) => span.from + span.took));
      const services = [...new Set(trace.map((span) => span.service))];
      const bars = trace.map((span) => `<div class=span><em style="padding-left:${span.depth * 18}px"><i style="background:${colors[services.indexOf(span.service)]}"></i>
        ${span.service} <b>${span.name}</b></em><u><s style="margin-left:${(span.from / whole) * 88}%;width:${Math.max((span.took / whole) * 88, 0.2)}%;
        background:${colors[services.indexOf(span.service)]}"></s>${written("s", span.took)}</u></div>`);
      box.insertAdjacentHTML("beforeend", bars.join(""));
      continue;
    }
    if (panel.type !== "timeseries") continue;
    const times = [];
    for (let at = Math.ceil(start); at <= end; at++) times.push(at);
    const lines = panel.lines.map(({ label, values }) => {
      const known = new Map(values.map(([at, v]) => [Math.round(at - start), v]));
      return { label, values: times.map((at) => { const v = known.get(Math.round(at - start)); return Number.isFinite(v) ? v : null; }) };
    });
    const real = lines.map((line) => line.values);
    if (panel.stacked) lines.forEach((line, n) => { if (n) line.values = line.values.map((v, at) => (v ?? 0) + (lines[n - 1].values[at] ?? 0)); });
    const order = panel.stacked ? [...lines.keys()].reverse() : [...lines.keys()];
    const series = order.map((n) => ({ label: lines[n].label, stroke: colors[n % colors.length], width: 1.2, points: { show: false },
      fill: panel.stacked ? colors[n % colors.length] + "40" : undefined }));
    const axis = { stroke: "#9fa7b3", grid: { stroke: "#2c3235", width: 1 }, ticks: { show: false }, font: "11px sans-serif" };
    const legend = lines.slice(0, 5).map((line, n) => {
      const values = real[n].filter((v) => v !== null);
      const mean = values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0;
      return `<li><i style="background:${colors[n % colors.length]}"></i>${line.label || panel.title}<b>${written(panel.unit, mean)}</b></li>`;
    });
    const more = lines.length > 5 ? `<li>and ${lines.length - 5} more</li>` : "";
    const under = 18 * (legend.length + (more ? 1 : 0)) + 6;
    new uPlot({ width: width - 16, height: height - 34 - under, legend: { show: false }, cursor: { show: false }, series: [{}, ...series],
      scales: { x: { time: true }, y: { range: (_u, _lo, hi) => [0, hi > 0 ? hi * 1.05 : 1] } },
      axes: [{ ...axis, size: 38 }, { ...axis, size: 74, values: (_u, all) => all.map((v) => written(panel.unit, v)) }] },
      [times, ...order.map((n) => lines[n].values)], box);
    box.insertAdjacentHTML("beforeend", `<ul>${legend.join("")}${more}</ul>`);
  }
  main.style.height = `${bottom}px`;
}

const style = `body{background:#111217;color:#ccccdc;font:13px sans-serif;margin:16px;width:1490px}h1{font-size:20px;font-weight:500}
main{position:relative}h2,section{position:absolute;margin:0;box-sizing:border-box}h2{font-size:15px;font-weight:500;padding-top:6px}
section{background:#181b1f;border:1px solid #25282d;border-radius:3px;padding:6px 8px;overflow:hidden}h3{font-size:13px;font-weight:500;margin:2px 0 6px}
strong{display:block;text-align:center;font-size:32px;font-weight:500;margin-top:20px}ul{list-style:none;margin:0;padding:0;font-size:11px}
table{border-collapse:collapse;width:100%;font-size:12px}td{padding:3px 8px;border-top:1px solid #25282d}
.span{display:flex;height:26px;align-items:center;font-size:12px}.span em{width:36%;font-style:normal;box-sizing:border-box}.span b{color:#fff;font-weight:500}
.span i{display:inline-block;width:10px;height:10px;margin-right:6px}.span u{flex:1;text-decoration:none;display:flex;align-items:center;gap:6px}
.span s{display:inline-block;height:12px}li{height:18px;display:flex;align-items:center;gap:6px}li b{margin-left:auto;font-weight:400}li i{width:14px;height:3px}`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1520, height: 800 } });
  page.on("pageerror", (error) => { throw error; });
  await page.setContent("<!doctype html><meta charset=utf-8><body></body>");
  await page.addStyleTag({ path: `${folder}uPlot.min.css` });
  await page.addStyleTag({ content: style });
  await page.addScriptTag({ path: `${folder}uPlot.iife.min.js` });
  await page.evaluate(draw, JSON.parse(readFileSync(shown, "utf8").replaceAll("NaN", "null").replaceAll("Infinity", "null")));
  await page.screenshot({ path: picture, fullPage: true });
} finally {
  await browser.close();
}
