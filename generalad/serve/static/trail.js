// The audit trail, which can be undone and kept, and the report of a shift.

import { day, element, number, table } from "./dom.js";
import { download, json, post } from "./service.js";
import { attempt, toast } from "./page.js";

let place = null;
let newest = null;

export async function enter(view) {
  place = element("div");
  newest = null;
  const report = (format) => attempt(() => download(`/v1/report?hours=${hours.value}&format=${format}`, `shift.${format}`));
  const hours = element("select", { "aria-label": "hours of the report" },
    ...[1, 8, 12, 24, 168].map((count) => element("option", { value: count, selected: count === 8 }, `last ${count} h`)));
  view.append(
    element("div", { class: "row" },
      element("button", { onclick: () => report("pdf") }, "Shift report as PDF"),
      element("button", { class: "plain", onclick: () => report("html") }, "as HTML"),
      hours,
      element("button", { class: "plain", onclick: () => attempt(() => download("/v1/audit.csv", "audit.csv")) }, "Trail as CSV")),
    place);
  await update();
}

export async function update() {
  const found = await json("/v1/audit").catch((error) => {
    if (error.status !== 404) throw error;
    place.replaceChildren(element("p", { class: "empty" }, error.message));
    return null;
  });
  if (!found || found.entries[0]?.number === newest) return;
  newest = found.entries[0]?.number;
  const undone = new Set(found.entries.map((entry) => entry.undoes));
  place.replaceChildren(found.entries.length
    ? table(["", "time", "by", "what", "subject", "before", "after", ""], found.entries.map((entry) => row(entry, undone)))
    : element("p", { class: "empty" }, "Nothing was decided or changed yet."));
}

function row(entry, undone) {
  const said = (value) => (value == null ? "–" : typeof value === "number" ? number(value, 4) : String(value));
  const what = entry.undoes == null ? entry.what : `${entry.what}, undoes ${entry.undoes}`;
  const button = undone.has(entry.number) || entry.undoes != null ? ""
    : element("button", { class: "plain", onclick: () => undo(entry.number) }, "Undo");
  return [String(entry.number), day(entry.time), entry.by, what, element("span", { class: "long" }, entry.subject), said(entry.before), said(entry.after), button];
}

const undo = (entry) => attempt(async () => {
  await post(`/v1/audit/${entry}/undo`);
  toast(`Entry ${entry} is undone.`);
  await update();
});
