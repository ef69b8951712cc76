// Drops files onto the canvas of the real frontend, each into an empty graph, and prints, as JSON, what each one
// brought: the prompt that would be sent, the types nobody knows, the dialogs.
//
//   node drop_files.cjs URL FILE...
//
// PLAYWRIGHT_CORE is the module's folder, CHROMIUM the browser.

const fs = require("fs");
const path = require("path");
const { browse, firstPage, given: files, openPage, print, set } = require("./frontend.cjs");

// What a browser says of a file by its suffix; nothing for those it does not know.
const KINDS = { ".mp4": "video/mp4", ".webm": "video/webm", ".webp": "image/webp", ".png": "image/png" };
const EMPTY = { version: 0.4, nodes: [], links: [], last_node_id: 0, last_link_id: 0 };

async function main(browser) {
  const page = await openPage(await firstPage(browser), 120_000);
  const seen = {};
  for (const file of files) {
    await page.evaluate((graph) => window.app.loadGraphData(graph), EMPTY);
    await page.waitForFunction(() => window.app.graph.nodes.length === 0);
    await page.evaluate(drop, {
      name: path.basename(file), type: KINDS[path.extname(file)] ?? "", base64: fs.readFileSync(file, "base64"),
    });
    await page.waitForFunction(() => window.app.graph.nodes.length > 0, null, { timeout: 20_000 }).catch(() => {});
    seen[path.basename(file)] = await page.evaluate(async () => ({
      prompt: (await window.app.graphToPrompt()).output,
      missing: window.app.graph.nodes.map((node) => node.type).filter(
        (type) => !(type in window.LiteGraph.registered_node_types),
      ),
      dialogs: [...document.querySelectorAll('[role="dialog"]')].map((dialog) => dialog.innerText),
    }));
  }
  return seen;
}

// Runs in the page: the event that a browser sends when a file is let go over the canvas.
function drop({ name, type, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type }));
  const { x, y, width, height } = window.app.canvas.canvas.getBoundingClientRect();
  const place = { clientX: x + width / 2, clientY: y + height / 2, bubbles: true, cancelable: true };
  window.app.canvas.canvas.dispatchEvent(new DragEvent("drop", { dataTransfer, ...place }));
}

const settings = { "Comfy.TutorialCompleted": true, "Comfy.Workflow.Persist": false };
print(set(settings).then(() => browse(main)));
