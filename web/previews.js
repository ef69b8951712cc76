// ComfyUI shows the last live preview of a node in place of its output. This pack's nodes show the finished video
// instead: their preview is dropped when they have been executed, in both canvases.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { nodeAt } from "./nodes.js";

const PICTURES = ["$$comfy_animation_preview", "$$canvas-image-preview"];
const REVOKED_AFTER_MS = 600; // the store drops a preview 400 ms after it was told to

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

// The classic canvas keeps the picture of a preview as a widget.
function removePicture(node) {
  node.imgs = undefined;
  for (const widget of (node.widgets ?? []).filter(({ name }) => PICTURES.includes(name))) {
    widget.onRemove?.();
    node.widgets.splice(node.widgets.indexOf(widget), 1);
  }
}

function showOutput({ detail }) {
  const executionId = String(detail.display_node ?? detail.node);
  const [store, node] = [previewStore(), nodeAt(executionId)];
  if (!store || !detail.output?.images || !node?.comfyClass?.startsWith("WanDuet")) return;
  for (const id of withParents(executionId)) store.revokePreviewsByExecutionId(id);
  // Neither canvas looks again when a preview has gone, only when there is a new output.
  const output = { ...detail.output, images: [...detail.output.images] };
  setTimeout(() => {
    removePicture(node);
    store.setNodeOutputsByExecutionId(executionId, output);
    app.canvas?.setDirty(true);
  }, REVOKED_AFTER_MS);
}

app.registerExtension({
  name: "WanDuet.Previews",
  setup: () => api.addEventListener("executed", showOutput),
});
