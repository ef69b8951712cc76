// A sidebar tab with batches and the jobs at providers. It shows and does what `wan-duet batch` and `wan-duet jobs` show and
// do, over routes that only ComfyUI's own page may use.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { batchSection } from "./batches_panel.js";
import { addStyle, arrange, element } from "./elements.js";
import { ask } from "./server.js";

const LOOK_MS = 3000; // between two looks at the journal while the tab is open
const STYLE = `
.wan-duet-jobs { display: flex; flex-direction: column; gap: 8px; height: 100%; overflow-y: auto; padding: 10px;
  box-sizing: border-box; font: 12px sans-serif; color: var(--input-text, #ddd); }
.wan-duet-jobs h3 { margin: 0; font-size: 14px; }
.wan-duet-jobs .list { display: flex; flex-direction: column; gap: 8px; }
.wan-duet-jobs article { display: grid; grid-template-columns: 96px 1fr; gap: 2px 8px; padding: 8px; border-radius: 6px;
  border: 1px solid var(--border-color, #444); background: var(--comfy-menu-bg, #222); }
.wan-duet-jobs .batch { grid-template-columns: 1fr; }
.wan-duet-jobs progress { width: 100%; height: 6px; }
.wan-duet-jobs .seen { grid-row: span 4; width: 96px; height: 72px; object-fit: cover; border-radius: 4px;
  background: var(--comfy-input-bg, #111); display: grid; place-items: center; color: var(--descrip-text, #999); }
.wan-duet-jobs .prompt { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.wan-duet-jobs .dim { color: var(--descrip-text, #999); }
.wan-duet-jobs .wrong { color: var(--error-text, #f55); overflow-wrap: anywhere; }
.wan-duet-jobs nav { display: flex; flex-wrap: wrap; gap: 4px; }
.wan-duet-jobs button { color: inherit; background: var(--comfy-input-bg, #111); cursor: pointer; padding: 2px 8px;
  border: 1px solid var(--border-color, #444); border-radius: 4px; font: inherit; }
`;

const fileOf = (job) => api.apiURL(`/wan_duet/jobs/file?job=${job}`);

function openPanel(container) {
  addStyle("wan-duet-jobs", STYLE);
  const money = element("div", { className: "dim money" });
  const problem = element("div", { className: "wrong", role: "alert" });
  const list = element("section", { className: "list" });
  const batches = batchSection(act);
  const heading = element("h3", {}, "Wan Duet jobs");
  const root = element("div", { className: "wan-duet-jobs" }, problem, batches.root, heading, money, list);
  const cards = new Map(); // {job id: {told, made}}: a card that did not change stays, and its video keeps playing

  async function lookAtJobs() {
    const { jobs, today } = await ask("jobs");
    money.textContent = moneyText(today);
    arrange(list, jobs.length ? jobs.map(cardOf) : [element("div", { className: "dim" }, "No job was sent to a provider yet.")]);
  }
  async function look() {
    try {
      await Promise.all([lookAtJobs(), batches.look()]);
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
  }
  function cardOf(job) {
    const told = JSON.stringify(job.open ? job : { ...job, elapsed_s: 0 });
    if (cards.get(job.job)?.told !== told) cards.set(job.job, { told, made: card(job, act) });
    return cards.get(job.job).made;
  }
  async function act(work) {
    try {
      await work();
      await look();
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  container.replaceChildren(root);
  look();
  const timer = setInterval(() => (root.isConnected ? look() : clearInterval(timer)), LOOK_MS);
}

function card(job, act) {
  const button = (text, title, work) => element("button", { textContent: text, title, onclick: () => act(work) });
  const post = (action) => () => ask(`jobs/${action}`, { job: job.job });
  const buttons = [];
  if (job.open) buttons.push(button("Attach", "Go on with this job in the background", post("attach")));
  if (job.open && !job.stopping) buttons.push(button("Cancel", "Stop the job at its provider", post("cancel")));
  if (job.has_file) buttons.push(button("Open file", "In a new tab", async () => void window.open(fileOf(job.job))));
  if (job.has_workflow) buttons.push(button("Workflow", "Open the workflow that ordered it", () => openWorkflow(job)));
  buttons.push(button("Forget", "Remove it from the list; its cost no longer counts towards today's limit", () => forget(job, post)));
  const made = element(
    "article",
    {},
    seen(job),
    element("div", { className: "prompt", title: job.prompt ?? "", textContent: job.prompt || job.endpoint }),
    element("div", {}, `${job.stopping ? "stopping" : job.state} · ${minutes(job.elapsed_s)} · ${job.cost}`),
    element("div", { className: job.error ? "wrong" : "dim" }, job.error ?? `${job.provider} · ${job.job.slice(0, 8)}`),
    element("nav", {}, ...buttons),
  );
  made.dataset.wanDuetJob = job.job;
  return made;
}

function seen(job) {
  if (!job.has_file) return element("div", { className: "seen", textContent: job.open ? "…" : "no file" });
  if (job.is_picture) return element("img", { className: "seen", src: fileOf(job.job), loading: "lazy" });
  return element("video", { className: "seen", src: fileOf(job.job), muted: true, loop: true, preload: "metadata",
    onmouseenter: (event) => event.target.play(), onmouseleave: (event) => event.target.pause() });
}

async function openWorkflow(job) {
  await app.loadGraphData(await ask(`jobs/workflow?job=${job.job}`), true, true, job.job.slice(0, 8));
}

async function forget(job, post) {
  const text = "Remove this job from the list? Its cost no longer counts towards today's limit. The file stays.";
  const agreed = await app.extensionManager.dialog.confirm({ title: "Forget job", message: text });
  if (agreed) await post("forget")();
}

function moneyText(today) {
  if (!today) return "";
  const unknown = today.jobs_of_unknown_price ? ` and ${today.jobs_of_unknown_price} of unknown price` : "";
  const limit = (usd, span) => (usd === null ? `no limit per ${span}` : `limit $${usd.toFixed(2)} per ${span}`);
  return `spent today: $${today.spent_usd.toFixed(2)}${unknown} · ${limit(today.per_day_usd, "day")}, ${limit(today.per_run_usd, "run")}`;
}

function minutes(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

app.registerExtension({
  name: "WanDuet.Jobs",
  setup() {
    app.extensionManager.registerSidebarTab({
      id: "wan-duet-jobs", icon: "pi pi-cloud", title: "Wan jobs", tooltip: "Wan Duet: batches, and jobs at fal and Novita",
      type: "custom", render: openPanel,
    });
  },
});
