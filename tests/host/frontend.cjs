// Opens ComfyUI's frontend in a headless Chromium for the scripts of this folder.
//
//   run(async (page) => result, { vueNodes: true, light: false })   an empty graph; prints the result as JSON
//   print(browse(async (browser) => result, viewport))              the same without any settings
//
// The address is the first argument of the script. PLAYWRIGHT_CORE is the module's folder, CHROMIUM the browser.

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const SIZE = { width: 1400, height: 900 };
const ARGUMENTS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const [url, ...given] = process.argv.slice(2);

// Nothing over the graph, nothing left from the page before, and a large graph keeps its words.
const QUIET = {
  "Comfy.TutorialCompleted": true, "Comfy.Minimap.Visible": false, "Comfy.Graph.CanvasInfo": false,
  "Comfy.Workflow.Persist": false, "LiteGraph.Canvas.MinFontSizeForLOD": 0,
};

async function set(settings) {
  for (const [name, value] of Object.entries(settings)) {
    await fetch(`${url}/settings/${name}`, { method: "POST", body: JSON.stringify(value) });
  }
}

// The result of work(browser), in a browser with a profile of its own that goes afterwards.
async function browse(work, viewport = SIZE) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wan-duet-browser-"));
  try {
    const options = { executablePath: process.env.CHROMIUM, headless: true, viewport, args: ARGUMENTS };
    const browser = await chromium.launchPersistentContext(profile, options);
    try {
      return await work(browser);
    } finally {
      await browser.close();
    }
  } finally {
    fs.rmSync(profile, { recursive: true, force: true });
  }
}

const firstPage = async (browser) => browser.pages()[0] ?? (await browser.newPage());

// A page at ComfyUI, once its canvas and our nodes are there. timeout: of everything in it, in ms; a machine that runs
// tests on all cores opens pages slowly.
async function openPage(page, timeout = 300_000) {
  page.setDefaultTimeout(timeout);
  await page.goto(url);
  await page.waitForFunction(() => window.app?.canvas && window.LiteGraph?.registered_node_types.WanDuetRunLocal);
  return page;
}

async function openEmpty(page) {
  await openPage(page);
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

function print(result) {
  result
    .then((seen) => console.log(JSON.stringify(seen)))
    .catch((error) => {
      console.error(error);
      process.exitCode = 1;
    });
}

async function inPage(work, { vueNodes = false, light = false }) {
  await set({ ...QUIET, "Comfy.VueNodes.Enabled": vueNodes, "Comfy.ColorPalette": light ? "light" : "dark" });
  return browse(async (browser) => {
    const page = await firstPage(browser);
    page.on("dialog", (dialog) => dialog.accept()); // that unsaved work is lost when the page is left
    await openEmpty(page);
    return work(page);
  });
}

const run = (work, options = {}) => print(inPage(work, options));

module.exports = { QUIET, addNode, browse, firstPage, given, openEmpty, openPage, print, run, set, url };
