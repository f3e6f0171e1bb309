// Stopped and borderline parts, one after the other, by keyboard.

import { day, element, facts, number } from "./dom.js";
import { json, operator, post, show } from "./service.js";
import { attempt, toast, toReview } from "./page.js";

const MARKS = { good: "✓", defective: "✗" };

let entries = [];
let at = null;
let overlay = true;
let all = false;
let parts = {};
let busy = false;

/** Do one thing at a time: a key that comes before the picture is there judges nothing. */
async function working(work) {
  if (busy) return;
  busy = true;
  parts.body.setAttribute("aria-busy", "true");
  await attempt(work);
  busy = false;
  parts.body.setAttribute("aria-busy", "false");
}

export async function enter(view) {
  parts = {
    image: element("img", { alt: "image to judge" }),
    none: element("p", { class: "none" }, "Stopped and borderline parts appear here."),
    about: element("div"),
    strip: element("ol", { class: "thumbs", "aria-label": "entries" }),
    buttons: element("div", { class: "row" }),
    left: element("p", { class: "left" }),
  };
  const filter = element("input", { type: "checkbox", checked: all });
  filter.addEventListener("change", () => {
    all = filter.checked;
    working(draw);
  });
  parts.overlay = element("input", { type: "checkbox", checked: overlay });
  parts.overlay.addEventListener("change", () => {
    overlay = parts.overlay.checked;
    working(draw);
  });
  parts.good = element("button", { class: "good", onclick: () => judge("good") }, "Good ", element("kbd", {}, "g"));
  parts.defective = element("button", { class: "bad", onclick: () => judge("defective") }, "Defective ", element("kbd", {}, "d"));
  parts.undo = element("button", { class: "plain", onclick: undo }, "Undo ", element("kbd", {}, "u"));
  parts.seen = element("button", { class: "plain", onclick: acknowledge }, "Seen ", element("kbd", {}, "a"));
  parts.buttons.append(parts.good, parts.defective, parts.seen, parts.undo);
  parts.body = element("div", { class: "review" },
    element("div", { class: "picture large" }, parts.image, parts.none),
    element("div", { class: "about" }, parts.left, parts.buttons, parts.about,
      element("p", { class: "keys" }, element("kbd", {}, "←"), " ", element("kbd", {}, "→"), " the one before, the next")));
  view.append(
    element("label", { class: "switch" }, filter, " show those that are judged, too"),
    element("label", { class: "switch" }, parts.overlay, " show what is anomalous (o)"), parts.body, parts.strip);
  at = null;
  busy = false;
  await working(load);
}

export async function update() {
  if (busy) return;
  const found = await json("/v1/review").catch(whereThereIsNoLine);
  if (found && found.entries[0]?.name !== entries[0]?.name) await working(() => load(found));
}

export function key(event) {
  const listed = shownEntries();
  const place = listed.findIndex((entry) => entry.name === at);
  if (event.key === "g") judge("good");
  else if (event.key === "d") judge("defective");
  else if (event.key === "u") undo();
  else if (event.key === "a") acknowledge();
  else if (event.key === "o") {
    parts.overlay.checked = overlay = !overlay;
    working(draw);
  } else if (event.key === "ArrowRight" && place < listed.length - 1) go(listed[place + 1].name);
  else if (event.key === "ArrowLeft" && place > 0) go(listed[place - 1].name);
  else return;
  event.preventDefault();
}

function whereThereIsNoLine(error) {
  if (error.status !== 404) throw error;
  parts.body.replaceChildren(element("p", { class: "empty" }, error.message));
  return null;
}

async function load(found) {
  found ??= await json("/v1/review").catch(whereThereIsNoLine);
  if (!found) return;
  entries = found.entries;
  if (!entries.some((entry) => entry.name === at)) at = shownEntries()[0]?.name ?? null;
  await draw();
}

const shownEntries = () => entries.filter((entry) => all || entry.verdict == null || entry.name === at);

const go = (name) => working(() => {
  at = name;
  return draw();
});

async function draw() {
  const listed = shownEntries();
  const entry = entries.find((one) => one.name === at);
  const waiting = entries.filter((one) => one.verdict == null).length;
  parts.left.textContent = waiting ? `${waiting} to review` : "Nothing is left to review.";
  toReview(waiting);
  const focused = parts.strip.contains(document.activeElement);
  parts.strip.replaceChildren(...listed.map(small));
  const thumb = parts.strip.querySelector("[aria-current]")?.parentElement;
  if (focused) thumb?.firstChild.focus({ preventScroll: true });
  if (thumb) parts.strip.scrollLeft = thumb.offsetLeft - (parts.strip.clientWidth - thumb.offsetWidth) / 2;
  for (const button of [parts.good, parts.defective, parts.seen]) button.disabled = !entry;
  parts.image.hidden = !entry;
  parts.none.hidden = Boolean(entry);
  parts.about.replaceChildren();
  if (!entry) return;
  parts.good.setAttribute("aria-pressed", String(entry.verdict === "good"));
  parts.defective.setAttribute("aria-pressed", String(entry.verdict === "defective"));
  parts.seen.setAttribute("aria-pressed", String(entry.acknowledged));
  parts.about.append(facts([
    ["stream", entry.stream],
    ["time", day(entry.time)],
    ["kind", entry.kind === "event" ? "stopped" : "borderline"],
    ["score", entry.normalised.toFixed(2)],
    ["raw, threshold", `${number(entry.score)}, ${number(entry.threshold)}`],
    ["decision", entry.anomalous ? "anomalous" : "normal"],
    ["verdict", entry.verdict ?? "none yet"],
  ]));
  await show(parts.image, `/v1/review/${encodeURIComponent(entry.name)}/${overlay ? "overlay" : "image"}`);
}

function small(entry) {
  const label = `${entry.stream}, ${day(entry.time)}, ${entry.kind}, ${entry.verdict ?? "not judged"}`;
  return element("li", {}, element("button", {
    class: `thumb ${entry.verdict ?? ""} ${entry.kind}`, "aria-label": label, title: label,
    "aria-current": entry.name === at ? "true" : null, onclick: () => go(entry.name),
  }, MARKS[entry.verdict] ?? entry.normalised.toFixed(2)));
}

async function change(body) {
  const entry = entries.find((one) => one.name === at);
  if (entry) Object.assign(entry, await post(`/v1/review/${encodeURIComponent(entry.name)}`, body));
}

const judge = (verdict) => working(async () => {
  const listed = shownEntries();
  const place = listed.findIndex((entry) => entry.name === at);
  await change({ verdict });
  const next = [...listed.slice(place + 1), ...listed.slice(0, place)].find((entry) => entry.verdict == null);
  if (next) at = next.name;
  await draw();
});

const acknowledge = () => working(async () => {
  await change({ acknowledged: !entries.find((one) => one.name === at)?.acknowledged });
  await draw();
});

const undo = () => working(async () => {
  const trail = (await json("/v1/audit")).entries;
  const undone = new Set(trail.map((entry) => entry.undoes));
  const last = trail.find((entry) => entry.what === "verdict" && entry.by === operator()
    && entry.undoes == null && !undone.has(entry.number));
  if (!last) return toast("There is nothing of yours to undo.");
  await post(`/v1/audit/${last.number}/undo`);
  at = last.subject;
  await load();
  return toast("Your last verdict is undone.");
});
