// Draws the input `rows` of the LoRA nodes as a table. The text stays what is saved, sent and promoted: the table only
// reads and writes it, and gives way to it where a link or a subgraph feeds it.

import { app } from "../../scripts/app.js";
import { loraTable } from "./lora_table.js";
import { ask } from "./server.js";

const NODES = ["WanDuetLora", "WanDuetRequestLora"];
const NONE = "none";
const KEYS = ["file", "high", "low", "on"];
const abouts = new Map(); // {file: promise of one line about it}

// The rows of a text, or the reason why it is kept as text.
export function parseRows(text) {
  let rows;
  try {
    rows = JSON.parse(text || "[]");
  } catch (error) {
    return { rows: [], wrong: `rows is not JSON: ${error.message}` };
  }
  const isRow = (row) => typeof row?.file === "string" && Object.keys(row).every((key) => KEYS.includes(key));
  if (!Array.isArray(rows) || !rows.every(isRow)) {
    return { rows: [], wrong: "rows is no table that can be drawn; correct the text" };
  }
  return { rows: rows.map(({ file, high = 1, low = 1, on = true }) => ({ file, high, low, on })), wrong: "" };
}

function about(file) {
  if (!abouts.has(file)) abouts.set(file, askAbout(file));
  return abouts.get(file);
}

async function askAbout(file) {
  if (file === NONE) return "";
  let told;
  try {
    told = await ask(`loras/about?file=${encodeURIComponent(file)}`);
  } catch (error) {
    return error.message; // such as a file that is no LoRA
  }
  const triggers = told.triggers.length ? `triggers: ${told.triggers.join(", ")}` : "no trigger words known";
  return [told.base, told.expert && `for ${told.expert}`, triggers].filter(Boolean).join(" · ");
}

function addTable(node) {
  const text = node.widgets.find((widget) => widget.name === "rows");
  const choice = node.widgets.find((widget) => widget.name === "file");
  const files = async () => {
    const { values } = choice.options;
    return typeof values === "function" ? values() : values;
  };
  const table = loraTable({ files, about, none: NONE, onChange: write });
  table.root.dataset.captureWheel = "true"; // the wheel scrolls the table and does not zoom
  const widget = node.addDOMWidget("rows_table", "wan_duet_lora_table", table.root, {
    serialize: false, getMinHeight: () => 130, getValue: () => "", setValue: () => {},
  });
  widget.serialize = false;

  function write(rows) {
    text.value = JSON.stringify(rows);
    text.callback?.(text.value);
    app.extensionManager.workflow.activeWorkflow?.changeTracker?.captureCanvasState(); // one step of undo
  }
  function show() {
    const { rows, wrong } = parseRows(text.value);
    const fed = node.inputs.some((input) => input.widget?.name === "rows" && input.link != null);
    hide(text, !fed && !wrong);
    hide(widget, fed || Boolean(wrong));
    table.show(rows, wrong);
  }
  after(text, "callback", show);
  after(node, "onConfigure", () => {
    takePlace(node, table.root);
    show();
  });
  after(node, "onConnectionsChange", show);
  show();
}

// After an undo, Nodes 2.0 goes on showing the table of the node that was there before, under the same id.
function takePlace(node, root) {
  const shown = document.querySelector(`[data-node-id="${node.id}"] .wan-duet-loras`);
  if (shown && shown !== root) shown.replaceWith(root);
}

// Both canvases: the classic one reads the widget, Nodes 2.0 its options.
function hide(widget, hidden) {
  widget.hidden = hidden;
  widget.options.hidden = hidden;
}

function after(owner, name, extra) {
  const before = owner[name];
  owner[name] = function (...given) {
    const answer = before?.apply(this, given);
    extra();
    return answer;
  };
}

app.registerExtension({
  name: "WanDuet.LoraRows",
  nodeCreated(node) {
    if (NODES.includes(node.comfyClass)) addTable(node);
  },
});
