// Opens one workflow in the real frontend and prints, as JSON, what a user would see of it.
//
//   node open_workflow.cjs URL WORKFLOW.json SCREENSHOT.png [run]
//
// With `run` the workflow is run first, so that the picture shows the finished video.
// PLAYWRIGHT_CORE is the module's folder, CHROMIUM the browser.

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const [url, file, screenshot, run] = process.argv.slice(2);
const SIZE = { width: 2000, height: 1000 };
const ARGUMENTS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

async function main(profile) {
  // No tour, no template dialog, nothing over the graph.
  for (const [name, value] of Object.entries({
    "Comfy.TutorialCompleted": true, "Comfy.Minimap.Visible": false, "Comfy.Graph.CanvasInfo": false,
    "Comfy.Workflow.Persist": false,
  })) {
    await fetch(`${url}/settings/${name}`, { method: "POST", body: JSON.stringify(value) });
  }
  const options = { executablePath: process.env.CHROMIUM, headless: true, viewport: SIZE, args: ARGUMENTS };
  const browser = await chromium.launchPersistentContext(profile, options);
  try {
    const page = browser.pages()[0] ?? (await browser.newPage());
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (line) => {
      if (line.type() === "error") errors.push(`${line.text()} (${line.location().url})`);
    });
    await page.goto(url);
    await page.waitForFunction(() => window.app?.canvas && window.LiteGraph?.registered_node_types.WanDuetRunLocal);
    // The page has errors of its own: a new user's settings do not exist yet, its first graph has models to download.
    let ofThePage = -1;
    while (ofThePage !== errors.length) {
      ofThePage = errors.length;
      await page.waitForTimeout(2000);
    }

    const workflow = JSON.parse(fs.readFileSync(file, "utf8"));
    await page.evaluate((graph) => window.app.loadGraphData(graph), workflow);
    const prompt = await page.evaluate(async () => (await window.app.graphToPrompt()).output);
    if (run) {
      await page.evaluate(() => window.app.queuePrompt(0));
      let left = 1;
      while (left > 0) {
        await page.waitForTimeout(500);
        left = (await (await fetch(`${url}/prompt`)).json()).exec_info.queue_remaining;
      }
    }
    await page.mouse.click(SIZE.width / 2, SIZE.height - 20);
    await page.keyboard.press("."); // fit the graph into the window
    await page.waitForTimeout(2000);
    const clip = await page.evaluate(() => {
      const { graph, canvas } = window.app;
      const boxes = [...graph.nodes, ...graph.groups].map((item) => [...item.boundingRect]);
      const [left, top] = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])));
      const [right, bottom] = [0, 1].map((axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])));
      const { scale, offset } = canvas.ds;
      const margin = 16;
      return {
        x: (left + offset[0]) * scale - margin,
        y: (top + offset[1]) * scale - margin,
        width: (right - left) * scale + 2 * margin,
        height: (bottom - top) * scale + 2 * margin,
      };
    });
    await page.screenshot({ path: screenshot, clip });
    const seen = await page.evaluate(() => ({
      missing: window.app.graph.nodes
        .map((node) => node.type)
        .filter((type) => !(type in window.LiteGraph.registered_node_types)),
      dialogs: [...document.querySelectorAll('[role="dialog"]')].map((dialog) => dialog.innerText),
    }));
    return { ...seen, prompt, errors: errors.slice(ofThePage) };
  } finally {
    await browser.close();
  }
}

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wan-duet-browser-"));
main(profile)
  .then((seen) => console.log(JSON.stringify(seen)))
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => fs.rmSync(profile, { recursive: true, force: true }));
