// ComfyUI shows the last live preview of a node in place of its output. This pack's nodes show the finished video
// instead: their preview is dropped when they have been executed, in both canvases.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

// The Pinia store that both canvases draw previews from. No public interface leads to it.
function previewStore() {
  const vueApp = document.getElementById("vue-app")?.__vue_app__;
  return vueApp?.config.globalProperties.$pinia?._s.get("nodeOutput");
}

// "5:7" is node 7 in the subgraph of node 5, which showed the preview too.
function withParents(executionId) {
  const ids = executionId.split(":");
  return ids.map((_, index) => ids.slice(0, index + 1).join(":"));
}

function nodeAt(executionId) {
  const [first, ...inside] = executionId.split(":");
  const start = (app.rootGraph ?? app.graph).getNodeById(Number(first));
  return inside.reduce((node, id) => node?.subgraph?.getNodeById(Number(id)), start);
}

function dropPreview({ detail }) {
  const executionId = String(detail.display_node ?? detail.node);
  if (!nodeAt(executionId)?.comfyClass?.startsWith("WanDuet")) return;
  for (const id of withParents(executionId)) previewStore()?.revokePreviewsByExecutionId(id);
  app.canvas?.setDirty(true);
}

app.registerExtension({
  name: "WanDuet.Previews",
  setup: () => api.addEventListener("executed", dropPreview),
});
