// The curves of a job: losses on a scale of their own on the left, accuracy from 0 to 100 % on the right.

import {el} from "./base.js";
import {figure} from "./words.js";

const WIDTH = 400;
const HEIGHT = 120;
const EDGE = 4;

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The values of the first of `names` that the points have, and that name; null where no line can be drawn. */
function series(points, names) {
  const name = names.find((each) => points.some((point) => Number.isFinite(point.metrics[each])));
  const values = points.map((point) => point.metrics[name]).filter(Number.isFinite);
  return values.length > 1 ? {name, values} : null;
}

function line(values, kind, low, high) {
  const reach = high - low || 1;
  const path = values.map((value, at) => {
    const x = EDGE + (at / (values.length - 1)) * (WIDTH - 2 * EDGE);
    const y = HEIGHT - EDGE - ((value - low) / reach) * (HEIGHT - 2 * EDGE);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  return svg("polyline", {points: path.join(" "), class: kind});
}

const scale = (kind, top, bottom) => el("div", {class: `scale ${kind}`}, el("span", {}, top), el("span", {}, bottom));

/** The points without what a later run did anew, from where it began. */
function course(points) {
  let kept = [];
  for (const point of points) {
    const last = kept.at(-1);
    if (last && last.attempt !== point.attempt) kept = kept.filter((each) => each.progress < point.progress);
    kept.push(point);
  }
  return kept;
}

export function chart(points, ended) {
  const all = course(points);
  const epochs = all.filter((point) => point.epoch_ended);
  const used = epochs.length > 1 ? epochs : all;
  const losses = [["loss", "train loss", series(used, ["loss"])], ["val-loss", "val loss", series(used, ["val_loss"])]]
    .filter(([, , found]) => found);
  const accuracy = series(used, ["val_accuracy", "accuracy"]);
  if (!losses.length && !accuracy) return el("p", {class: "dim"}, ended ? "No curve." : "No curve: it begins with the first epochs.");
  const values = losses.flatMap(([, , found]) => found.values);
  const [low, high] = [Math.min(0, ...values), Math.max(...values)];
  const lines = losses.map(([kind, , found]) => line(found.values, kind, low, high));
  if (accuracy) lines.push(line(accuracy.values, "accuracy", 0, 1));
  const range = (found) => `${figure(Math.min(...found.values), 3)} to ${figure(Math.max(...found.values), 3)}`;
  const keys = losses.map(([kind, name, found]) => el("span", {class: kind}, `${name} ${range(found)}`));
  if (accuracy) {
    const name = accuracy.name === "val_accuracy" ? "val accuracy" : "train accuracy";
    const [least, most] = [Math.min(...accuracy.values), Math.max(...accuracy.values)];
    keys.push(el("span", {class: "accuracy"}, `${name} ${(least * 100).toFixed(1)} to ${(most * 100).toFixed(1)} %`));
  }
  return el("div", {},
    el("div", {class: "plot"},
      losses.length > 0 && scale("left", figure(high, 3), figure(low, 3)),
      svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "chart", role: "img", "aria-label": "Loss and accuracy by epoch"}, ...lines),
      accuracy && scale("right", "100 %", "0 %")),
    el("div", {class: "key"}, keys));
}
