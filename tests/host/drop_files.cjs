// Drops files onto the canvas of the real frontend, each into an empty graph, and prints, as JSON, what each one
// brought: the prompt that would be sent, the types nobody knows, the dialogs.
//
//   node drop_files.cjs URL FILE...
//
// PLAYWRIGHT_CORE is the module's folder, CHROMIUM the browser.

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const [url, ...files] = process.argv.slice(2);
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"];
// What a browser says of a file by its suffix; nothing for those it does not know.
const KINDS = { ".mp4": "video/mp4", ".webm": "video/webm", ".webp": "image/webp", ".png": "image/png" };
const EMPTY = { version: 0.4, nodes: [], links: [], last_node_id: 0, last_link_id: 0 };

async function main(profile) {
  for (const name of ["Comfy.TutorialCompleted", "Comfy.Workflow.Persist"]) {
    await fetch(`${url}/settings/${name}`, { method: "POST", body: String(name.endsWith("Completed")) });
  }
  const options = { executablePath: process.env.CHROMIUM, headless: true, args: ARGUMENTS };
  const browser = await chromium.launchPersistentContext(profile, options);
  try {
    const page = browser.pages()[0] ?? (await browser.newPage());
    page.setDefaultTimeout(120_000); // a machine that runs tests on all cores opens pages slowly
    await page.goto(url);
    await page.waitForFunction(() => window.app?.canvas && window.LiteGraph?.registered_node_types.WanDuetRunLocal);
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
    console.log(JSON.stringify(seen));
  } finally {
    await browser.close();
  }
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

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wan-duet-browser-"));
main(profile)
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => fs.rmSync(profile, { recursive: true, force: true }));
