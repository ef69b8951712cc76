// Shows what a run adjusted or warns of on the node that found it: while it runs, and when its result was kept.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addStyle, element } from "./elements.js";
import { nodeAt } from "./nodes.js";

const STYLE = `
.wan-duet-findings { width: 100%; height: 100%; overflow: auto; box-sizing: border-box; padding: 4px;
  color: var(--input-text, #ddd); background: var(--comfy-menu-bg, #222); border-radius: 4px; font: 12px sans-serif;
  overflow-wrap: anywhere; }
`;
const HEIGHT = 72;

function show(node, findings) {
  const known = node.widgets?.find(({ name }) => name === "findings");
  if (!findings.length) {
    if (known) remove(node, known);
    return;
  }
  addStyle("wan-duet-findings", STYLE);
  const lines = findings.map(({ status, field, reason }) => element("div", {}, `${status} ${field}: ${reason}`));
  (known ?? add(node)).element.replaceChildren(...lines);
}

function add(node) {
  const root = element("div", { className: "wan-duet-findings" });
  root.dataset.captureWheel = "true"; // the wheel scrolls the findings and does not zoom
  const widget = node.addDOMWidget("findings", "wan_duet_findings", root, {
    serialize: false, getMinHeight: () => HEIGHT, getValue: () => "", setValue: () => {},
  });
  widget.serialize = false;
  grow(node);
  return widget;
}

function remove(node, widget) {
  widget.onRemove?.();
  node.widgets.splice(node.widgets.indexOf(widget), 1);
}

function grow(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
}

app.registerExtension({
  name: "WanDuet.Findings",
  setup() {
    api.addEventListener("wan_duet_findings", ({ detail }) => {
      const node = nodeAt(String(detail.node));
      if (node) show(node, detail.wan_duet_findings);
    });
  },
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("WanDuet")) return;
    const before = node.onExecuted;
    node.onExecuted = function (output) {
      before?.apply(this, arguments);
      show(this, output?.wan_duet_findings ?? []);
    };
  },
});
