// The tabs, who is at the screen, what is said at the bottom.

import { element } from "./dom.js";
import { json } from "./service.js";
import * as line from "./line.js";
import * as review from "./review.js";
import * as models from "./models.js";
import * as trail from "./trail.js";

const TABS = [
  ["Line", line],
  ["Review", review],
  ["Models", models],
  ["Trail", trail],
];

const view = document.getElementById("view");
let shown = null;
let ticks = 0;

export function toast(text, bad = false) {
  const place = document.getElementById("toast");
  place.textContent = text;
  place.classList.toggle("bad", bad);
  place.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => (place.hidden = true), 6000);
}

/** Do something that may fail; the reason is shown. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

async function open(number) {
  const [name, tab] = TABS[number];
  shown?.leave?.();
  shown = tab;
  for (const [index, button] of [...document.getElementById("tabs").children].entries())
    button.setAttribute("aria-selected", String(index === number));
  document.title = `${name} · gad`;
  history.replaceState(null, "", `#${name.toLowerCase()}`);
  view.replaceChildren();
  await attempt(() => tab.enter(view));
}

async function look() {
  if (!document.hidden) {
    const place = document.getElementById("ready");
    try {
      const found = await fetch("/readyz").then((answer) => answer.json());
      place.textContent = found.status === "ok" ? "ready" : found.problems[0];
      place.title = found.problems.join("\n");
      place.classList.toggle("bad", found.status !== "ok");
    } catch {
      place.textContent = "the service does not answer";
      place.classList.add("bad");
    }
    await attempt(async () => shown?.update?.());
    if (ticks % 5 === 0) await count();
    ticks += 1;
  }
  setTimeout(look, 1000);
}

async function count() {
  toReview((await json("/v1/review").catch(() => ({ waiting: 0 }))).waiting);
}

/** How many images wait for a verdict, beside the tab's name. */
export function toReview(waiting) {
  document.getElementById("tabs").children[1].querySelector("b").textContent = waiting || "";
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=checkbox]), select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key) - 1;
  if (number >= 0 && number < TABS.length) open(number);
  else shown?.key?.(event);
});

const by = document.getElementById("by");
by.value = localStorage.getItem("by") ?? "";
by.addEventListener("change", () => localStorage.setItem("by", by.value.trim()));

document.getElementById("tabs").append(...TABS.map(([name], index) =>
  element("button", { role: "tab", "aria-controls": "view", title: `key ${index + 1}`, onclick: () => open(index) }, name, element("b"))));

const wanted = TABS.findIndex(([name]) => `#${name.toLowerCase()}` === location.hash);
const hasLine = await json("/v1/line").then(() => true, () => false);
await open(wanted >= 0 ? wanted : hasLine ? 0 : 2);
look();
