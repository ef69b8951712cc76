// Finds nodes of the open graph, and adds displays to them.

import { app } from "../../scripts/app.js";
import { addStyle, element } from "./elements.js";

const STYLE = `
.wan-duet-display { width: 100%; height: 100%; overflow: auto; box-sizing: border-box; padding: 4px;
  color: var(--input-text, #ddd); background: var(--comfy-menu-bg, #222); border-radius: 4px; font: 12px sans-serif;
  overflow-wrap: anywhere; }
`;

// By the id of its execution: "5:7" is node 7 in the subgraph of node 5.
export function nodeAt(executionId) {
  const [first, ...inside] = executionId.split(":");
  const start = (app.rootGraph ?? app.graph).getNodeById(Number(first));
  return inside.reduce((node, id) => node?.subgraph?.getNodeById(Number(id)), start);
}

// The widget of this name that only shows something and is not saved; added, and the node enlarged, if it is missing.
export function display(node, name, height) {
  const known = node.widgets?.find((widget) => widget.name === name);
  if (known) return known;
  addStyle("wan-duet-display", STYLE);
  const root = element("div", { className: `wan-duet-display wan-duet-${name}` });
  root.dataset.captureWheel = "true"; // the wheel scrolls it and does not zoom
  const widget = node.addDOMWidget(name, `wan_duet_${name}`, root, {
    serialize: false, getMinHeight: () => height, getValue: () => "", setValue: () => {},
  });
  widget.serialize = false;
  const [width, needed] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], needed)]);
  return widget;
}
