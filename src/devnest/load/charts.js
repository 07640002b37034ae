// Draws the charts of a page as SVG: `charts.draw(place, figure)`, again with new data to redraw.
// devnest/load/charts.py says what a figure is. Colours are variables of page.css, so that a change
// between light, dark and print needs no new drawing.
"use strict";

const charts = (() => {
  const FONT_PX = 12, LINE_PX = 18, PLOT_PX = 230, BAR_PX = 16, ROW_PX = 46, GAP_PX = 10, MIN_WIDTH_PX = 280;
  const pen = document.createElement("canvas").getContext("2d");

  function add(parent, name, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  function words(parent, x, y, text, more = {}) {
    return add(parent, "text", { x, y, fill: "var(--quiet)", ...more }, text);
  }

  function widthOf(text) {
    pen.font = `${FONT_PX}px system-ui, sans-serif`;
    return pen.measureText(text).width;
  }

  const colourOf = (role) => `var(--${typeof role === "number" ? `line-${role % 8}` : role})`;

  function written(value) {
    if (value === 0) return "0";
    const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
    return value.toLocaleString("en", { maximumFractionDigits: digits });
  }

  // From 0 or the smallest value to the largest, in steps of 1, 2 or 5 times a power of ten.
  function linear(values, { wanted = 5, zero = true } = {}) {
    let low = zero ? 0 : Infinity, high = zero ? 0 : -Infinity;
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (!(high > low)) high = (Number.isFinite(low) ? low : low = 0) + 1;
    const raw = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
    if (zero) high = Math.ceil(high / step - 1e-9) * step;
    const ticks = [];
    for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number++) {
      ticks.push([number * step, written(Number((number * step).toPrecision(12)))]);
    }
    return { ticks, at: (value) => (value - low) / (high - low) };
  }

  // The distance from 100 % halves with each step to the right, so the slowest answers get the room.
  function percentiles(width) {
    const at = (percent) => Math.min(1, -Math.log10(Math.max(1 - percent / 100, 1e-4)) / 3);
    const shown = width < 500 ? [50, 90, 99, 99.9] : [0, 50, 90, 99, 99.9];
    return { at, ticks: shown.map((percent) => [percent, `${percent} %`]) };
  }

  function* numbers(lists) {
    for (const list of lists) for (const value of list) if (value !== null) yield value;
  }

  function legend(svg, entries, left, width) {
    let x = left, y = LINE_PX - 4;
    for (const { name, colour, wide, dashed } of entries) {
      const length = 18 + widthOf(name);
      if (x > left && x + length > width) {
        x = left;
        y += LINE_PX;
      }
      add(svg, "path", { d: `M${x} ${y - 4}h12`, stroke: colour, "stroke-width": wide ? 10 : 3, "stroke-dasharray": dashed ? "4 2" : "none" });
      words(svg, x + 17, y, name, { fill: "var(--ink)" });
      x += length + 16;
    }
    return y + 8;
  }

  // Pieces between gaps; a value without neighbours is a dot, since a line of one point is nothing.
  function drawLine(svg, line, toX, toY) {
    let piece = [];
    const stroke = colourOf(line.role);
    const end = () => {
      const [first] = piece;
      if (piece.length === 1) add(svg, "circle", { cx: first[0], cy: first[1], r: 3, fill: stroke });
      if (piece.length > 1) {
        const style = { fill: "none", stroke, "stroke-width": 2, "stroke-linejoin": "round" };
        if (line.dashed) style["stroke-dasharray"] = "6 4";
        add(svg, "path", { d: `M${piece.map((point) => point.join(" ")).join("L")}`, ...style });
      }
      piece = [];
    };
    line.x.forEach((x, index) => {
      if (line.y[index] === null) end();
      else piece.push([toX(x).toFixed(1), toY(line.y[index]).toFixed(1)]);
    });
    end();
  }

  function drawArea(svg, behind, toX, toY) {
    let path = `M${toX(behind.x[0]).toFixed(1)} ${toY(0).toFixed(1)}`;
    behind.x.forEach((x, index) => {
      path += `L${toX(x).toFixed(1)} ${toY(behind.y[index]).toFixed(1)}`;
    });
    add(svg, "path", { d: `${path}L${toX(behind.x.at(-1)).toFixed(1)} ${toY(0).toFixed(1)}Z`, fill: "var(--behind)" });
  }

  function lines(svg, figure, width) {
    const behind = figure.behind?.x.length ? figure.behind : null;
    const limit = figure.limit ? [figure.limit.value] : [];
    const scaleY = linear(numbers([...figure.lines.map((line) => line.y), limit]));
    const scaleB = behind && linear(behind.y);
    const all = [...figure.lines, ...(behind ? [behind] : [])];
    const scaleX = figure.scale === "percentile" ? percentiles(width) :
      linear(numbers(all.map((line) => line.x)), { wanted: width < 500 ? 4 : 10, zero: false });
    const left = 10 + Math.max(...scaleY.ticks.map(([, text]) => widthOf(text)), 24);
    const right = width - (behind ? 8 + Math.max(...scaleB.ticks.map(([, text]) => widthOf(text)), 24) : 18);
    const entries = figure.lines.map((line) => ({ name: line.name, colour: colourOf(line.role), dashed: line.dashed }));
    if (figure.limit) entries.push({ name: figure.limit.name, colour: "var(--bad)", dashed: true });
    if (behind) entries.push({ name: `${behind.name} (right)`, colour: "var(--behind)", wide: true });
    const head = legend(svg, entries, left, width) + LINE_PX;
    const foot = head + PLOT_PX;
    const toX = (value) => left + scaleX.at(value) * (right - left);
    const toY = (value) => foot - scaleY.at(value) * PLOT_PX;
    words(svg, left, head - 8, figure.unit);
    if (behind) drawArea(svg, behind, toX, (value) => foot - scaleB.at(value) * PLOT_PX);
    for (const [value, text] of scaleY.ticks) {
      add(svg, "path", { d: `M${left} ${toY(value)}H${right}`, stroke: "var(--line)" });
      words(svg, left - 6, toY(value) + 4, text, { "text-anchor": "end" });
    }
    for (const [value, text] of behind ? scaleB.ticks : []) {
      words(svg, right + 6, foot - scaleB.at(value) * PLOT_PX + 4, text);
    }
    for (const [value, text] of scaleX.ticks) {
      words(svg, toX(value), foot + LINE_PX, text, { "text-anchor": "middle" });
    }
    words(svg, (left + right) / 2, foot + 2 * LINE_PX, figure.x, { "text-anchor": "middle" });
    if (figure.limit) {
      drawLine(svg, { x: [0, 1], y: [1, 1], role: "bad", dashed: true }, (end) => (end ? right : left),
        () => toY(figure.limit.value));
    }
    for (const line of figure.lines) drawLine(svg, line, toX, toY);
    follow(svg, figure, { left, right, head, foot, toX, toY });
    return foot + 2 * LINE_PX + 6;
  }

  // Beside the pointer: the values of all lines at the nearest position.
  function follow(svg, figure, { left, right, head, foot, toX, toY }) {
    const cursor = add(svg, "g", { class: "cursor", visibility: "hidden" });
    const positions = [...new Set(numbers(figure.lines.map((line) => line.x)))].sort((one, other) => one - other);
    const area = add(svg, "rect", { x: left, y: head, width: Math.max(0, right - left), height: foot - head, fill: "transparent" });
    if (!positions.length) return;
    area.addEventListener("pointerleave", () => cursor.setAttribute("visibility", "hidden"));
    area.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const at = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
      const x = positions.reduce((best, each) => (Math.abs(toX(each) - at) < Math.abs(toX(best) - at) ? each : best));
      const shown = figure.lines.map((line) => [line, line.y[line.x.indexOf(x)]]).filter(([, y]) => y !== null && y !== undefined);
      const texts = [`${written(x)} ${figure.x}`, ...shown.map(([line, y]) => `${line.name}: ${written(y)} ${figure.unit}`)];
      const wide = Math.max(...texts.map(widthOf)) + 16;
      const start = toX(x) + 10 + wide > right ? Math.max(left, toX(x) - 10 - wide) : toX(x) + 10;
      cursor.replaceChildren();
      add(cursor, "path", { d: `M${toX(x)} ${head}V${foot}`, stroke: "var(--quiet)" });
      for (const [line, y] of shown) add(cursor, "circle", { cx: toX(x), cy: toY(y), r: 4, fill: colourOf(line.role) });
      add(cursor, "rect", { x: start, y: head + 4, width: wide, height: texts.length * LINE_PX + 8, rx: 4, fill: "var(--panel)", stroke: "var(--line)" });
      texts.forEach((text, index) => words(cursor, start + 8, head + 20 + index * LINE_PX, text, { fill: "var(--ink)" }));
      cursor.setAttribute("visibility", "visible");
    });
  }

  function bars(svg, figure, width) {
    const most = Math.max(...figure.bars.map((bar) => bar.value), 0) || 1;
    const room = width - Math.max(0, ...figure.bars.map((bar) => widthOf(bar.text))) * 1.15 - GAP_PX;
    figure.bars.forEach(({ name, value, role, text }, index) => {
      const y = index * ROW_PX;
      const length = Math.max(2, value / most * room);
      const weight = role === "before" || role === "after" ? 600 : 400;
      words(svg, 0, y + 14, name, { fill: weight === 600 ? "var(--ink)" : "var(--quiet)", "font-weight": weight });
      add(svg, "rect", { x: 0, y: y + 20, width: length, height: BAR_PX, rx: 2, fill: colourOf(role) });
      words(svg, length + 6, y + 33, text, { fill: "var(--ink)", "font-weight": weight });
    });
    return figure.bars.length * ROW_PX;
  }

  function draw(place, figure) {
    const width = Math.max(place.clientWidth, MIN_WIDTH_PX);
    place.dataset.width = place.clientWidth;
    place.querySelector("svg")?.remove();
    const label = place.getAttribute("data-label") ?? "";
    const svg = add(place, "svg", { role: "img", "aria-label": label, "font-size": FONT_PX, "font-family": "system-ui, sans-serif" });
    const height = figure.kind === "bars" ? bars(svg, figure, width) : lines(svg, figure, width);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  // The drawing as a file of its own: with its title, on paper, and with colours instead of variables.
  function standalone(place, title) {
    const { width, height } = place.querySelector("svg").viewBox.baseVal;
    const whole = add(document.createElement("div"), "svg", {
      width: width + 40, height: height + 70, "font-size": FONT_PX, "font-family": "system-ui, sans-serif",
    });
    add(whole, "rect", { width: "100%", height: "100%", fill: "var(--paper)" });
    words(whole, 20, 32, title, { fill: "var(--ink)", "font-size": 16, "font-weight": 600 });
    const inside = add(whole, "g", { transform: "translate(20 50)" });
    for (const part of place.querySelector("svg").cloneNode(true).children) {
      if (part.getAttribute("class") !== "cursor") inside.append(part.cloneNode(true));
    }
    const style = getComputedStyle(document.documentElement);
    const text = new XMLSerializer().serializeToString(whole);
    return { text: text.replace(/var\((--[a-z0-9-]+)\)/g, (_, name) => style.getPropertyValue(name).trim()), width: width + 40, height: height + 70 };
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async function download(place, title, kind) {
    const { text, width, height } = standalone(place, title);
    const drawing = new Blob([text], { type: "image/svg+xml" });
    if (kind === "svg") return save(drawing, `${place.id}.svg`);
    const image = new Image(width, height);
    image.src = URL.createObjectURL(drawing);
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height });
    canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
    URL.revokeObjectURL(image.src);
    canvas.toBlob((png) => save(png, `${place.id}.png`), "image/png");
  }

  // Draw all figures into the elements with their ids, and again when an element's width changes.
  function show(figures) {
    const watcher = new ResizeObserver((entries) => {
      for (const { target } of entries) if (target.clientWidth !== Number(target.dataset.width)) draw(target, figures[target.id]);
    });
    for (const [id, figure] of Object.entries(figures)) {
      const place = document.getElementById(id);
      draw(place, figure);
      watcher.observe(place);
    }
    document.documentElement.dataset.drawn = Object.keys(figures).length;
  }

  document.addEventListener("click", ({ target }) => {
    const kind = target.dataset?.download;
    if (!kind) return;
    const frame = target.closest("figure");
    download(frame.querySelector(".plot"), frame.querySelector("h2, h3").textContent, kind);
  });

  return { draw, show, standalone };
})();
