// Single utterances: a timeline, a list, and an explanation of the selected prediction.
// The data come from a JSON element of the page; texts are only set as textContent.
"use strict";

const COLOURS = ["#3d85c6", "#d98324", "#2f9e76", "#a06cc0", "#8f8a2a", "#5b9aa0", "#c2477f"];
const SVG = "http://www.w3.org/2000/svg";
// Sizes of the timeline in pixels; the strip of modalities is below BOTTOM, the axis left of LEFT.
const HEIGHT = 190, TOP = 12, BOTTOM = 152, LEFT = 30;

function make(parent, name, attributes = {}, text) {
  const svg = ["svg", "rect", "line", "g", "title", "text"].includes(name);
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function utterances(root) {
  const data = JSON.parse(root.querySelector("script").textContent);
  const element = name => root.querySelector("." + name);
  const regression = data.task === "regression";
  const words = new Map(data.words.map(([space, code, text]) => [space + code, text]));
  const colour = index => COLOURS[index % COLOURS.length];
  const classColour = index => COLOURS[(index + 3) % COLOURS.length];
  const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
  const number = (value, digits = 2) =>
    value === null || value === undefined ? "–" : value.toFixed(digits);
  const signed = value => value === null ? "–" : (value < 0 ? "−" : "+") + number(Math.abs(value));
  const clock = seconds => Math.floor(seconds / 60) + ":" +
    (seconds % 60).toFixed(1).padStart(4, "0");
  const [low, high] = regression ? [data.low, data.high] : [0, 1];
  data.items.forEach((item, index) => {
    item.index = index;
    item.mean = mean(item.shown);
    item.best = item.outputs.indexOf(Math.max(...item.outputs));
    const moves = item.moves.map(value => value === null ? 0 : Math.abs(value));
    item.largest = Math.max(...moves) > 0 ? moves.indexOf(Math.max(...moves)) : -1;
  });
  const multilabel = data.task === "multilabel";
  const names = indices => indices.map(index => data.classes[index]).join(" + ") || "none";
  const labelOf = value => regression ? signed(value) : names(value);
  const predicted = item => regression ? signed(item.mean) : multilabel ?
    names([...item.outputs.keys()].filter(index => item.outputs[index] > 0.5)) :
    data.classes[item.best] + " " + number(item.mean);
  const groupsOf = item => !regression ? item.label.map(index => data.classes[index]) :
    [item.label < 0 ? "negative" : item.label > 0 ? "positive" : "neutral"];

  // The filters decide which items are shown, and in which order.
  const fields = [...root.querySelectorAll("select, input")];
  const choice = name => (fields.find(field => field.name === name) || {}).value || "";
  function options(name, values) {
    const field = fields.find(candidate => candidate.name === name);
    if (!field) return;
    for (const value of [...new Set(values)]) make(field, "option", {value}, value);
    if (field.options.length < 3) field.parentElement.hidden = true;  // a single value
  }
  options("video", data.items.map(item => item.video));
  options("split", data.items.map(item => item.split).filter(Boolean));
  options("group", data.items.filter(item => "label" in item).flatMap(groupsOf).sort());
  let shown = data.items, selected = null;
  function filter() {
    const search = choice("search").toLowerCase();
    shown = data.items.filter(item =>
      ["video", "split"].every(name => !choice(name) || item[name] === choice(name)) &&
      (!choice("least") || item.error > Number(choice("least"))) &&
      (!choice("group") || groupsOf(item).includes(choice("group"))) &&
      (!search || (item.id + " " + item.words).toLowerCase().includes(search)));
    const key = {error: item => -item.error, prediction: item => -item.mean,
      moved: item => -Math.max(...item.moves.map(Math.abs))}[choice("order")];
    if (key) shown = [...shown].sort((a, b) => key(a) - key(b));
    element("count").textContent = shown.length + " of " + data.items.length + " utterances";
    timeline();
    list();
  }

  // By time, one video after the other; without times, or in another order, with equal widths.
  function timeline() {
    const box = element("timeline");
    box.replaceChildren();
    const timed = shown.length > 0 && shown.every(item => item.time) && !choice("order");
    let offset = 0, video = null, end = 0;
    const spans = shown.map((item, index) => {
      if (!timed) return [index, index + 1];
      if (item.video !== video) [offset, end, video] = [end - item.time[0], end, item.video];
      end = Math.max(end, offset + item.time[1]);
      return [offset + item.time[0], offset + item.time[1]];
    });
    const total = Math.max(1e-9, ...spans.map(span => span[1]));
    const width = Math.max((box.clientWidth || 1000) - LEFT, 7 * shown.length) - 4;
    const svg = make(box, "svg", {width: width + LEFT, height: HEIGHT, role: "list"});
    const y = value => BOTTOM - (Math.min(Math.max(value, low), high) - low) / (high - low) *
      (BOTTOM - TOP);
    const zero = low < 0 && high > 0 ? 0 : low;
    for (const value of new Set([low, zero, high])) {
      make(svg, "line", {x1: LEFT, x2: LEFT + width, y1: y(value), y2: y(value), class: "grid"});
      make(svg, "text", {x: 4, y: y(value) + 3}, number(value, 1));
    }
    shown.forEach((item, index) => {
      const x = LEFT + spans[index][0] / total * width;
      const wide = Math.max(3, (spans[index][1] - spans[index][0]) / total * width - 1);
      const bar = make(svg, "g", {class: "segment", role: "listitem", "data-index": item.index});
      make(bar, "title", {}, item.id + ": " + predicted(item) + "\n" + item.words);
      make(bar, "rect", {x, y: 0, width: wide, height: HEIGHT, class: "hit"});
      const ends = [y(zero), y(item.mean)];
      make(bar, "rect", {x, y: Math.min(...ends), width: wide,
        height: Math.max(1, Math.abs(ends[0] - ends[1])),
        fill: regression ? (item.mean < 0 ? "#3b73b9" : "#cc6f3a") : classColour(item.best)});
      const middle = x + wide / 2;
      make(bar, "line", {x1: middle, x2: middle, class: "spread",
        y1: y(Math.min(...item.shown)), y2: y(Math.max(...item.shown))});
      if (regression && "label" in item)
        make(bar, "line", {x1: x, x2: x + wide, y1: y(item.label), y2: y(item.label),
          class: "label"});
      if (item.largest >= 0)
        make(bar, "rect", {x, y: BOTTOM + 14, width: wide, height: 12, fill: colour(item.largest)});
    });
    mark();
  }

  function list() {
    const body = element("rows");
    body.replaceChildren();
    for (const item of shown) {
      const row = make(body, "tr", {"data-index": item.index, tabindex: 0});
      make(row, "td", {}, item.id);
      make(row, "td", {class: "n"}, item.time ? clock(item.time[0]) : item.split || "");
      make(row, "td", {class: "n"}, predicted(item));
      if ("label" in item) {
        make(row, "td", {class: "n"}, labelOf(item.label));
        make(row, "td", {class: "n"}, number(item.error));
      }
      make(row, "td", {}, item.largest < 0 ? "–" :
        data.modalities[item.largest] + " " + signed(item.moves[item.largest]));
      make(row, "td", {}, item.words || "–");
    }
    mark();
  }

  function mark() {
    for (const node of root.querySelectorAll("[data-index]"))
      node.classList.toggle("selected", Number(node.dataset.index) === selected);
  }

  function matrix(parent, title, rows, columns, values, high) {
    const block = make(parent, "div", {class: "block"});
    make(block, "h4", {}, title);
    const table = make(block, "table");
    const head = make(table, "tr");
    make(head, "th");
    for (const name of columns) make(head, "th", {class: "n"}, name);
    rows.forEach((name, index) => {
      const row = make(table, "tr");
      make(row, "th", {}, name);
      for (const value of values[index]) {
        const cell = make(row, "td", {class: "n"}, number(value));
        if (high && value !== null)
          cell.style.background = "rgba(41, 112, 191, " + (0.05 + 0.6 * value / high) + ")";
      }
    });
  }

  function details(item) {
    const box = element("details");
    box.replaceChildren();
    const names = data.modalities;
    make(box, "h4", {}, item.id + (item.time ?
      ", " + clock(item.time[0]) + " to " + clock(item.time[1]) : "") +
      (item.split ? ", " + item.split : ""));
    make(box, "p", {class: "said"}, item.words || "No transcript is available.");
    const facts = ["Prediction " + predicted(item)];
    if (item.shown.length > 1) facts.push("by seed " +
      item.shown.map(value => regression ? signed(value) : number(value)).join(", "));
    if ("label" in item) facts.push("label " + labelOf(item.label), "error " + number(item.error));
    if (item.absent.length) facts.push("without " + item.absent.join(", "));
    make(box, "p", {}, facts.join(" · "));
    const blocks = make(box, "div", {class: "blocks"});
    if (!regression)
      matrix(blocks, "Probabilities", data.classes, [""], item.outputs.map(v => [v]), 1);
    if (item.moves.some(value => value !== null)) {
      const block = make(blocks, "div", {class: "block moves"});
      make(block, "h4", {}, "Contribution of each modality to the " +
        (regression ? "prediction" : "probability of " + data.classes[item.best]));
      const most = Math.max(...item.moves.map(Math.abs), 1e-9);
      item.moves.forEach((value, index) => {
        const row = make(block, "div");
        make(row, "span", {}, names[index]);
        const bar = make(make(row, "span", {class: "track"}), "i");
        bar.style.width = 50 * Math.abs(value || 0) / most + "%";
        bar.style.marginLeft = (value < 0 ? 50 - 50 * Math.abs(value) / most : 50) + "%";
        bar.style.background = colour(index);
        make(row, "span", {class: "n"}, signed(value));
      });
    }
    for (const [space, values] of Object.entries(item.edges))
      matrix(blocks, "Edges, " + space + " (row: teacher, column: student)", names, names, values, 1);
    const spaces = Object.keys(item.auxiliary);
    if (regression && spaces.length)
      matrix(blocks, "Auxiliary outputs", names, spaces,
        names.map((_, index) => spaces.map(space => item.auxiliary[space][index][0])), 0);
    else for (const space of spaces)
      matrix(blocks, "Auxiliary outputs, " + space, names, data.classes, item.auxiliary[space], 1);
    for (const [space, values] of Object.entries(item.codes)) {
      const block = make(blocks, "div", {class: "block codes"});
      make(block, "h4", {}, "Active codes, " + space);
      const table = make(block, "table");
      const head = make(table, "tr");
      for (const name of ["", "code", "activation", "words that activate it"])
        make(head, "th", {}, name);
      values.forEach((codes, index) => codes.forEach(([code, activation], rank) => {
        const row = make(table, "tr");
        make(row, "th", {}, rank ? "" : names[index]);
        make(row, "td", {class: "n"}, code);
        make(row, "td", {class: "n"}, number(activation));
        make(row, "td", {}, words.get(space + code) || "–");
      }));
    }
  }

  // Play a local media file from the start to the end of the segment.
  let stop = Infinity;
  function play(item) {
    const box = element("player"), media = (data.media || {})[item.video];
    if (!box || !media || !item.time) return box && box.replaceChildren();
    let player = box.firstElementChild;
    if (!player || player.dataset.src !== media.src) {
      box.replaceChildren();
      player = make(box, media.element, {controls: "", preload: "metadata", src: media.src,
        "data-src": media.src});
      player.addEventListener("timeupdate", () => { if (player.currentTime >= stop) player.pause(); });
      player.addEventListener("error", () => make(box, "p", {class: "warn"},
        "The browser cannot play " + decodeURI(media.src)));
    }
    stop = item.time[1];
    player.currentTime = item.time[0];
    player.play().catch(() => {});  // rejected without a click, or for a file it cannot play
  }

  function select(index) {
    selected = index;
    mark();
    details(data.items[index]);
    play(data.items[index]);
  }

  for (const name of ["timeline", "rows"])
    element(name).addEventListener("click", event => {
      const target = event.target.closest("[data-index]");
      if (target) select(Number(target.dataset.index));
    });
  root.addEventListener("keydown", event => {
    if (event.target.matches("input, select")) return;
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    const position = shown.findIndex(item => item.index === selected);
    const focused = event.target.dataset.index;
    if (event.key === "Enter" && focused) select(Number(focused));
    if (!step || !shown[position + step]) return;
    event.preventDefault();
    select(shown[position + step].index);
  });
  for (const field of fields) field.addEventListener("input", filter);
  function legend(box, names, colours) {
    names.forEach((name, index) => {
      const entry = make(box, "span", {}, name);
      entry.prepend(make(null, "i"));
      entry.firstChild.style.background = colours(index);
    });
  }
  legend(element("legend"), data.modalities, colour);
  if (!regression) legend(element("classes"), data.classes, classColour);
  filter();
}

for (const root of document.querySelectorAll(".utterances")) utterances(root);
