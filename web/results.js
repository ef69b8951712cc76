// Shows what a node tells of its result: a picture in SVG, a report as text, and that of Check as a table by field.

import { app } from "../../scripts/app.js";
import { checkReport } from "./check_report.js";
import { addStyle, element } from "./elements.js";
import { display } from "./nodes.js";

const NODES = ["WanDuetSigmas", "WanDuetCheck", "WanDuetLora", "WanDuetShot"];
const STYLE = `
.wan-duet-report { white-space: pre-wrap; overflow-wrap: anywhere; }
.wan-duet-result svg { display: block; width: 100%; max-width: 560px; }
`;
const HEIGHTS = { WanDuetSigmas: 210, WanDuetCheck: 320, WanDuetLora: 160, WanDuetShot: 130 };

// The picture as an element: parsed as XML, so that no script in it runs.
function picture(svg) {
  const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  return document.importNode(parsed, true);
}

function show(node, output) {
  const report = output?.wan_duet_check
    ? [checkReport(output.wan_duet_check)]
    : (output?.text ?? []).map((text) => element("div", { className: "wan-duet-report" }, text));
  const parts = [...report, ...(output?.wan_duet_picture ?? []).map(picture)];
  if (!parts.length) return;
  addStyle("wan-duet-result", STYLE);
  display(node, "result", HEIGHTS[node.comfyClass]).element.replaceChildren(...parts);
}

app.registerExtension({
  name: "WanDuet.Results",
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const before = node.onExecuted;
    node.onExecuted = function (output) {
      before?.apply(this, arguments);
      show(this, output);
    };
  },
});
