// Opens ComfyUI's frontend in a headless Chromium for the scripts of this folder.
//
//   run(async (page) => result, { vueNodes: true, light: false })   prints the result as JSON
//
// The address is the first argument of the script. PLAYWRIGHT_CORE is the module's folder, CHROMIUM the browser.

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const SIZE = { width: 1400, height: 900 };
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"];
const [url, ...given] = process.argv.slice(2);

// Nothing over the graph, nothing left from the page before.
const QUIET = {
  "Comfy.TutorialCompleted": true, "Comfy.Minimap.Visible": false, "Comfy.Graph.CanvasInfo": false,
  "Comfy.Workflow.Persist": false, "LiteGraph.Canvas.MinFontSizeForLOD": 0,
};

async function opened(work, { vueNodes = false, light = false }) {
  const settings = { ...QUIET, "Comfy.VueNodes.Enabled": vueNodes, "Comfy.ColorPalette": light ? "light" : "dark" };
  for (const [name, value] of Object.entries(settings)) {
    await fetch(`${url}/settings/${name}`, { method: "POST", body: JSON.stringify(value) });
  }
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wan-duet-browser-"));
  const options = { executablePath: process.env.CHROMIUM, headless: true, viewport: SIZE, args: ARGUMENTS };
  const browser = await chromium.launchPersistentContext(profile, options);
  try {
    const page = browser.pages()[0] ?? (await browser.newPage());
    page.setDefaultTimeout(300_000); // a machine that runs tests on all cores opens pages slowly
    page.on("dialog", (dialog) => dialog.accept()); // that unsaved work is lost when the page is left
    await openPage(page);
    return await work(page);
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

async function openPage(page) {
  await page.goto(url);
  await page.waitForFunction(() => window.app?.canvas && window.LiteGraph?.registered_node_types.WanDuetRunLocal);
  await page.evaluate(() => window.app.graph.clear());
}

// Puts a new node of this class on the canvas, in view; returns its id.
async function addNode(page, kind, size, position = [40, 40]) {
  return page.evaluate(
    ([kind, size, position]) => {
      const node = window.LiteGraph.createNode(kind);
      window.app.graph.add(node);
      node.pos = position;
      if (size) node.setSize(size);
      const { ds } = window.app.canvas;
      ds.scale = 1;
      ds.offset = [120, 60];
      window.app.canvas.setDirty(true, true);
      return node.id;
    },
    [kind, size, position],
  );
}

function run(work, options = {}) {
  opened(work, options)
    .then((seen) => console.log(JSON.stringify(seen)))
    .catch((error) => {
      console.error(error);
      process.exitCode = 1;
    });
}

module.exports = { addNode, given, openPage, run, url };
