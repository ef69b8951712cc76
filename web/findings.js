// Shows what a run adjusted or warns of on the node that found it: while it runs, and when its result was kept.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { element } from "./elements.js";
import { display, nodeAt } from "./nodes.js";

const NAME = "findings";
const HEIGHT = 72;

function show(node, findings) {
  if (!findings.length) {
    remove(node);
    return;
  }
  const lines = findings.map(({ status, field, reason }) => element("div", {}, `${status} ${field}: ${reason}`));
  display(node, NAME, HEIGHT).element.replaceChildren(...lines);
}

function remove(node) {
  const at = node.widgets?.findIndex(({ name }) => name === NAME) ?? -1;
  if (at < 0) return;
  node.widgets[at].onRemove?.();
  node.widgets.splice(at, 1);
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
