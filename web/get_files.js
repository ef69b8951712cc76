// *Get files* on Load Model: lists the published weight files that this workflow selects, and has the server download
// those that are missing into ComfyUI's folders. The server knows the addresses; this page only sends names.

import { app } from "../../scripts/app.js";
import { addStyle, element } from "./elements.js";
import { ask } from "./server.js";

const IS_FILE = /\.(safetensors|gguf)$/i;
const WORKFLOW = "this workflow";
const POLL_MS = 500;

function allNodes(graph) {
  return graph.nodes.flatMap((node) => [node, ...(node.subgraph ? allNodes(node.subgraph) : [])]);
}

// What the nodes of this pack select, in the order of the graph. A text widget may hold rows of LoRAs as JSON.
export function selectedFiles(graph) {
  const ours = allNodes(graph).filter((node) => node.type?.startsWith("WanDuet"));
  const values = ours.flatMap((node) => node.widgets ?? []).map((widget) => widget.value);
  const names = values.filter((value) => typeof value === "string").flatMap((value) =>
    value.startsWith("[") ? [...value.matchAll(/"([^"]+\.(?:safetensors|gguf))"/gi)].map((found) => found[1]) : [value],
  );
  return [...new Set(names.filter((name) => IS_FILE.test(name)))];
}

function size(bytes) {
  return bytes >= 1e8 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

const STATES = { here: "here", missing: "missing", partly: "partly here", other: "another file has this name" };

function table(files) {
  const rows = files.map((file) =>
    element(
      "tr",
      {},
      element("td", { textContent: STATES[file.state] }),
      element("td", {}, element("a", { textContent: file.name, href: file.page, target: "_blank", rel: "noopener" })),
      element("td", { textContent: `models/${file.folder}` }),
      element("td", { textContent: size(file.bytes) }),
    ),
  );
  return element("table", {}, ...rows);
}

class Dialog {
  constructor() {
    this.files = element("div", {});
    this.status = element("p", { role: "status" });
    this.bar = element("progress", { hidden: true });
    this.source = element("select", { ariaLabel: "Files of" });
    this.source.onchange = () => this.tell(() => this.look());
    this.download = element("button", { textContent: "Download", disabled: true });
    this.download.onclick = () => this.tell(() => this.start());
    this.stop = element("button", { textContent: "Stop", hidden: true });
    this.stop.onclick = () => this.tell(() => ask("models/stop", {}));
    const close = element("button", { textContent: "Close", onclick: () => this.box.close() });
    this.box = element(
      "dialog",
      { className: "wan-duet-get-files" },
      element("h3", { textContent: "Get files" }),
      element("label", {}, "Files of ", this.source),
      this.files,
      this.status,
      this.bar,
      element("div", { className: "wan-duet-buttons" }, this.download, this.stop, close),
    );
    this.box.dataset.wanDuetGetFiles = "";
    this.box.onclose = () => this.box.remove();
    this.box.onkeydown = (event) => event.stopPropagation(); // the canvas has shortcuts
  }

  async open() {
    addStyle("wan-duet-get-files", STYLE);
    document.body.append(this.box);
    this.box.showModal();
    await this.tell(async () => {
      this.choices = new Map([[WORKFLOW, selectedFiles(app.rootGraph ?? app.graph)]]);
      for (const { kind, size: named, files } of await ask("models/kinds")) this.choices.set(`${kind}, ${named}`, files);
      this.source.replaceChildren(...[...this.choices.keys()].map((name) => element("option", { textContent: name })));
      await this.look();
      if ((await ask("models/progress")).running) await this.follow();
    });
  }

  async tell(work) {
    try {
      await work();
    } catch (error) {
      this.status.textContent = error.message;
    }
  }

  async look() {
    const names = this.choices.get(this.source.value);
    const { files, problem } = await ask("models/look", { files: names });
    const left = files.reduce((sum, file) => sum + file.left_bytes, 0);
    const known = new Set(files.map((file) => file.name));
    const others = names.filter((name) => !known.has(name.split(/[/\\]/).pop()));
    this.files.replaceChildren(table(files));
    this.download.disabled = !left || Boolean(problem);
    this.download.textContent = left ? `Download ${size(left)}` : "Download";
    const unlisted = others.length ? ` Not in the list of published files: ${others.join(", ")}.` : "";
    this.status.textContent = (problem ?? (files.length ? (left ? "" : "All files are here.") : "No published file is selected.")) + unlisted;
  }

  async start() {
    await ask("models/get", { files: this.choices.get(this.source.value) });
    await this.follow();
  }

  // Until the download ends, also when this dialog is closed and opened again.
  async follow() {
    this.download.disabled = this.source.disabled = true;
    this.stop.hidden = this.bar.hidden = false;
    let state;
    do {
      state = await ask("models/progress");
      this.bar.max = state.total || 1;
      this.bar.value = state.done;
      this.status.textContent = state.total ? `${state.stage}: ${state.done} of ${state.total} ${state.unit}` : state.stage;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    } while (state.running && this.box.open);
    if (!this.box.open) return;
    this.stop.hidden = this.bar.hidden = true;
    this.source.disabled = false;
    await this.look();
    if (state.error) this.status.textContent = state.error;
    else await app.refreshComboInNodes?.(); // the widgets list the new files
  }
}

const STYLE = `
.wan-duet-get-files { color: var(--fg-color); background: var(--comfy-menu-bg); border: 1px solid var(--border-color);
  border-radius: 8px; padding: 16px; max-width: 90vw; margin: auto; }
.wan-duet-get-files h3 { margin: 0 0 8px; font-weight: 600; }
.wan-duet-get-files td { padding: 2px 12px 2px 0; }
.wan-duet-get-files a { text-decoration: underline; }
.wan-duet-get-files select, .wan-duet-get-files button { background: var(--comfy-input-bg); color: inherit;
  border: 1px solid var(--border-color); border-radius: 4px; padding: 4px 12px; }
.wan-duet-get-files button:disabled { opacity: 0.5; }
.wan-duet-get-files progress { width: 100%; }
.wan-duet-get-files .wan-duet-buttons { display: flex; gap: 8px; justify-content: flex-end; margin-top: 12px; }
`;

app.registerExtension({
  name: "WanDuet.GetFiles",
  nodeCreated(node) {
    if (node.comfyClass !== "WanDuetLoadModel") return;
    const button = node.addWidget("button", "Get files", null, () => new Dialog().open(), { serialize: false });
    button.serialize = false; // no value of it in a workflow: widgets are saved by position
    button.tooltip = "Lists the files that this workflow needs, and downloads those that are missing. Asks first.";
  },
});
