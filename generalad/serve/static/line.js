// The streams: picture, state, scores with the threshold, and what happened.

import { clock, element, facts, number } from "./dom.js";
import { json, post, show } from "./service.js";
import { attempt, toast } from "./page.js";
import { Strip } from "./strip.js";

let panels = new Map();
let place = null;
let notices = null;
let overlay = true;

export async function enter(view) {
  panels = new Map();
  place = element("section", { class: "streams" });
  notices = element("ol", { class: "notices" });
  const whole = element("input", { type: "checkbox", id: "overlay", checked: overlay });
  whole.addEventListener("change", () => (overlay = whole.checked));
  view.append(
    element("div", { class: "line" }, place,
      element("aside", {},
        element("label", { class: "switch" }, whole, " show what is anomalous (o)"),
        element("h2", {}, "What happened"), notices)));
  await update();
}

export function key(event) {
  if (event.key === "o") {
    overlay = !overlay;
    document.getElementById("overlay").checked = overlay;
  }
}

export async function update() {
  const found = await json("/v1/line").catch((error) => {
    if (error.status !== 404) throw error;
    place.replaceChildren(element("p", { class: "empty" }, error.message));
    notices.parentElement.hidden = true;
    return null;
  });
  if (!found) return;
  found.streams.forEach((stream, index) => {
    if (!panels.has(stream.name)) {
      const panel = new Panel(index, stream, found);
      panels.set(stream.name, panel);
      place.append(panel.root);
    }
    panels.get(stream.name).update(stream, found);
  });
  notices.replaceChildren(...found.notices.slice(0, 60).map(told));
}

function told(notice) {
  const [words, kind] = inWords(notice);
  return element("li", { class: kind },
    element("time", {}, clock(notice.time)), element("strong", {}, notice.stream), element("span", {}, words));
}

function inWords(notice) {
  if (notice.notice === "event")
    return notice.phase === "begin"
      ? [`anomalous, score ${number(notice.peak.score)}`, "bad"]
      : [`over: ${notice.ended_by}; highest score ${number(notice.peak.score)}`, ""];
  if (notice.notice === "fault") {
    if (notice.state === "cleared") return [`camera fault is over: ${notice.fault}, ${notice.seconds.toFixed(0)} s`, "good"];
    const what = { raised: "camera fault", refused: "an image was not scored", strange: "a strange image" }[notice.state];
    return [`${what}: ${notice.fault}: ${notice.reason}`, notice.state === "raised" ? "bad" : "warn"];
  }
  if (notice.notice === "drift")
    return [`${notice.state}: ${notice.suggestion || "as at calibration again"}`, notice.state === "drifting" ? "warn" : "good"];
  const live = notice.state === "live";
  return [[notice.state, notice.reason].filter(Boolean).join(": "), live ? "good" : "warn"];
}

class Panel {
  constructor(index, stream, line) {
    this.index = index;
    this.busy = false;
    this.image = element("img", { alt: `newest image of ${stream.name}` });
    this.none = element("p", { class: "none" }, "no image yet");
    this.state = element("span", { class: "badge" });
    this.facts = element("div");
    this.words = element("p", { class: "words", role: "status" });
    this.strip = new Strip(stream.name, (value) => this.change(value));
    this.root = element("article", { class: "stream" },
      element("div", { class: "picture" }, this.image, this.none),
      element("div", { class: "about" },
        element("h2", {}, stream.name, " ", this.state), this.words, this.facts),
      this.strip.root);
  }

  update(stream, line) {
    const [words, kind] = stateOf(stream);
    this.state.textContent = words;
    this.state.className = `badge ${kind}`;
    this.root.classList.toggle("anomalous", stream.in_event);
    this.words.textContent = [
      stream.state !== "live" ? stream.reason : "",
      stream.fault ? `camera fault: ${stream.fault}` : "",
      stream.drift === "drifting" ? "what it shows has drifted from the calibration" : "",
    ].filter(Boolean).join("; ");
    const dropped = Object.values(stream.dropped).reduce((sum, count) => sum + count, 0);
    this.facts.replaceChildren(facts([
      ["images/s", stream.fps.toFixed(1)],
      ["latency, p95", `${stream.p95.toFixed(0)} ms`],
      ["scored", stream.processed],
      ["anomalous", stream.anomalous],
      ["events", stream.events],
      ["dropped", dropped],
    ]));
    this.strip.update(stream, line);
    this.picture();
  }

  async picture() {
    if (this.busy) return;
    this.busy = true;
    try {
      await show(this.image, `/v1/line/streams/${this.index}/picture?overlay=${overlay ? 1 : 0}`);
      this.none.hidden = true;
    } catch (error) {
      if (error.status !== 404) throw error;
    } finally {
      this.busy = false;
    }
  }

  change(value) {
    return attempt(async () => {
      await post(`/v1/line/streams/${this.index}/threshold`, { threshold: value });
      toast(value == null ? "The threshold is the artifact's again." : `The threshold is ${number(value)}.`);
      await update();
    });
  }
}

function stateOf(stream) {
  if (stream.fault) return ["camera fault", "bad"];
  if (stream.live && stream.state !== "live") return [stream.state, "warn"];
  if (stream.in_event) return ["anomalous", "bad"];
  return [stream.state, "good"];
}
