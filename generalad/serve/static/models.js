// The models with their numbers; versions are exchanged here.

import { day, element, facts, number } from "./dom.js";
import { download, json, post } from "./service.js";
import { attempt, toast } from "./page.js";

let place = null;
let shown = "";

export async function enter(view) {
  place = element("section", { class: "models" });
  shown = "";
  view.append(place);
  await update();
}

export async function update() {
  const { models } = await json("/v1/models");
  const now = JSON.stringify(models.map((model) => ({ ...model, counts: { ...model.counts, busy_seconds: 0 } })));
  if (now === shown || place.contains(document.activeElement)) return;
  shown = now;
  place.replaceChildren(...models.map(card));
}

function card(model) {
  const { counts } = model;
  const exchange = (path, body, words) => attempt(async () => {
    const now = await post(`/v1/models/${encodeURIComponent(model.name)}/${path}`, body);
    toast(`${model.name}: ${now.version} ${words}`);
    shown = "";
    document.activeElement?.blur();
    await update();
  });
  return element("article", {},
    element("h2", {}, model.name, " ", element("span", { class: "badge good" }, model.version)),
    facts([
      ["threshold", number(model.threshold)],
      ["false alarms, at most", `${(model.false_alarm_rate * 100).toPrecision(2)} %`],
      ["calibration images", model.calibration_images],
      ["images by request", counts.images],
      ["of these anomalous", counts.anomalous],
      ["of these failed", counts.failed],
      ["median, p99", counts.median_ms == null ? "–" : `${number(counts.median_ms)}, ${number(counts.p99_ms)} ms`],
    ]),
    element("p", { class: "words" }, `Self-test: ${model.selftest.replace(`${model.version}: `, "")}`),
    element("p", { class: "words" },
      `${model.method}, class ${model.class}, ${model.image_size.join(" × ")}, ${model.precision} on ${model.backend}; loaded ${day(model.loaded)}; sha256 ${model.sha256.slice(0, 12)}`),
    model.rollout && element("p", { class: "words" }, rolledOut(model.rollout)),
    element("div", { class: "row" },
      ...model.versions.map((version) => element("button", {
        class: "plain", disabled: version === model.version,
        onclick: () => exchange("swap", { version }, "serves"),
      }, version === model.version ? `${version} serves` : `Serve ${version}`)),
      ...model.reports.map((version) => element("button", {
        class: "plain", onclick: () => attempt(() => download(
          `/v1/models/${encodeURIComponent(model.name)}/report?version=${encodeURIComponent(version)}`, `${version}.html`)),
      }, `Evaluation of ${version}`)),
      element("button", { class: "plain", disabled: model.previous == null, onclick: () => exchange("rollback", {}, "serves again") },
        model.previous == null ? "No version before" : `Back to ${model.previous}`)));
}

function rolledOut({ version, state, reason, compared }) {
  const counts = compared && `${compared.images} images compared in ${number(compared.seconds)} s, ${compared.new_alarms} new alarms, ${compared.alarms_no_more} no more`;
  return `Wanted ${version}: ${[state, reason, counts].filter(Boolean).join("; ")}`;
}
