// The batches in the jobs panel: how far each is, as `wan-duet batch status` says it.

import { arrange, element } from "./elements.js";
import { ask } from "./server.js";

const DONE_OF = ["running", "waiting", "failed", "cancelled"]; // told where there are any

// The section, and what renews it. act: runs work and renews the panel.
export function batchSection(act) {
  const rule = element("div", { className: "dim" });
  const list = element("div", { className: "list" });
  const fleet = element("div", { className: "list" });
  let asksFleet = false;
  const cards = new Map(); // {folder: {told, made}}: a button that is being pressed stays
  const root = element("section", { className: "batches list" }, element("h3", {}, "Batches"), rule, list, fleet);
  async function look() {
    lookAtFleet(); // not awaited: a fleet that does not answer holds nothing else up
    const told = await ask("batches");
    const older = told.older ? `; ${told.older} older ones are not shown` : "";
    rule.textContent = `Batches in ComfyUI's output folder, at most ${told.folders} folders deep${older}.`;
    arrange(list, told.batches.map((batch) => cardOf(batch, act)));
  }
  async function lookAtFleet() {
    if (asksFleet) return;
    asksFleet = true;
    try {
      const told = await ask("batches/fleet");
      arrange(fleet, told ? [cardOf(told, null)] : []);
    } catch (error) {
      arrange(fleet, [element("div", { className: "wrong" }, error.message)]);
    }
    asksFleet = false;
  }
  function cardOf(batch, act) {
    const told = JSON.stringify(batch);
    if (cards.get(batch.batch)?.told !== told) cards.set(batch.batch, { told, made: card(batch, act) });
    return cards.get(batch.batch).made;
  }
  return { root, look };
}

// act: null for what has no buttons.
function card(batch, act) {
  const name = batch.batch === "." ? "the output folder" : batch.batch;
  const title = element("div", { className: "prompt", title: name, textContent: name });
  const made = element("article", { className: "batch" }, title);
  made.dataset.wanDuetBatch = batch.batch;
  if (batch.problem) {
    made.append(element("div", { className: "wrong", textContent: batch.problem }));
    return made;
  }
  const button = (text, action, tip) =>
    element("button", { textContent: text, title: tip, onclick: () => act(() => ask(`batches/${action}`, { batch: batch.batch })) });
  const buttons = [];
  if (act && (batch.waiting || batch.running))
    buttons.push(button("Cancel", "cancel", "Cancel all rows that are not done; one that runs is not published"));
  if (act && (batch.failed || batch.cancelled))
    buttons.push(button("Retry", "retry", "Let failed and cancelled rows wait again"));
  made.append(
    element("progress", { max: batch.rows, value: batch.done }),
    element("div", {}, [`${batch.done} of ${batch.rows} done`, ...states(batch)].join(" · ")),
    element("div", { className: "dim" }, facts(batch).join(" · ")),
    ...batch.now.map((row) => element("div", { className: "dim" }, `${row.place}: ${row.id}, ${span(row.since_s)}`)),
    ...batch.errors.map((row) => element("div", { className: "wrong" }, `${row.id} ${row.state}: ${row.error}`)),
    element("nav", {}, ...buttons),
  );
  return made;
}

const states = (batch) => DONE_OF.filter((state) => batch[state]).map((state) => `${batch[state]} ${state}`);

function facts(batch) {
  const told = batch.names.length ? [batch.names.join(", ")] : [];
  if (batch.left_s !== null) told.push(`about ${span(batch.left_s)} left`);
  if (!batch.is_over && !batch.is_running) told.push("no process works on it: run the same command again");
  if (batch.seconds) told.push(`${span(batch.seconds)} of work`);
  if (batch.usd !== null) {
    const unknown = batch.rows_of_unknown_price ? ` and ${batch.rows_of_unknown_price} rows of unknown price` : "";
    told.push(`$${batch.usd.toFixed(2)}${unknown}`);
  }
  if (batch.more_errors) told.push(`${batch.more_errors} more errors: wan-duet batch status`);
  return told;
}

// As the command line says a duration.
function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 90 * 60 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
