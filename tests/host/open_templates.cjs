// Opens workflows whose model files are missing, one after another, and prints as a JSON list what a user would see.
//
//   node open_templates.cjs URL '[{"workflow": "FILE.json", "vue": false, "screenshot": "OUT.png"}, ...]'
//
// Of each: `listed`, the files in ComfyUI's list of missing models; `prompt`, what Run would send; `missing`, node types
// that are not known; `overlaps`, pairs of nodes of which one lies on the other; `app`, whether app mode is shown.

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const [url, jobs] = process.argv.slice(2);
const SIZE = { width: 2000, height: 1100 };
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"];

async function set(name, value) {
  await fetch(`${url}/settings/${name}`, { method: "POST", body: JSON.stringify(value) });
}

async function main(profile) {
  for (const [name, value] of Object.entries({
    "Comfy.TutorialCompleted": true, "Comfy.Minimap.Visible": false, "Comfy.Workflow.Persist": false,
    "Comfy.Graph.CanvasInfo": false, "LiteGraph.Canvas.MinFontSizeForLOD": 0,
  })) await set(name, value);
  const options = { executablePath: process.env.CHROMIUM, headless: true, viewport: SIZE, args: ARGUMENTS };
  const browser = await chromium.launchPersistentContext(profile, options);
  try {
    const seen = [];
    let page;
    let vue;
    for (const job of JSON.parse(jobs)) {
      if (job.vue !== vue) {
        vue = job.vue;
        await set("Comfy.VueNodes.Enabled", vue);
        page = await openPage(browser);
      }
      seen.push(await open(page, job));
    }
    console.log(JSON.stringify(seen));
  } finally {
    await set("Comfy.VueNodes.Enabled", false);
    await browser.close();
  }
}

async function openPage(browser) {
  const page = await browser.newPage();
  page.setDefaultTimeout(180_000);
  await page.goto(url);
  await page.waitForFunction(() => window.app?.canvas && window.LiteGraph?.registered_node_types.WanDuetRunLocal);
  await page.waitForTimeout(5000); // the first graph of the page has missing models of its own
  return page;
}

async function open(page, { workflow, screenshot }) {
  const graph = JSON.parse(fs.readFileSync(workflow, "utf8"));
  await page.bringToFront();
  await page.evaluate(() => window.app.loadGraphData({ version: 0.4, nodes: [], links: [], last_node_id: 0, last_link_id: 0 }));
  await page.waitForFunction(() => !document.querySelector('[data-testid="missing-model-actions"]'));
  await page.evaluate((given) => window.app.loadGraphData(given), graph);
  const listed = graph.extra.linearMode ? [] : await listedFiles(page);
  await page.waitForTimeout(1000);
  await page.evaluate(() => window.app.canvas.canvas.focus());
  await page.keyboard.press("."); // fit the graph into the window
  await page.waitForTimeout(3000);
  await page.screenshot({ path: screenshot });
  return { listed, ...(await page.evaluate(describe)) };
}

async function listedFiles(page) {
  const see = page.getByTestId("error-overlay-see-errors");
  const card = page.getByTestId("missing-model-actions");
  await see.or(card).first().waitFor();
  if (!(await card.isVisible())) await see.click();
  await card.waitFor();
  const text = await card.locator("xpath=..").innerText();
  return [...new Set(text.match(/[\w.-]+\.(safetensors|gguf)/g))].sort();
}

async function describe() {
  const { app, LiteGraph } = window;
  const boxes = app.graph.nodes.map((node) => [node.title, ...node.boundingRect]);
  const overlaps = boxes.flatMap(([name, x, y, w, h], index) =>
    boxes
      .slice(index + 1)
      .filter(([, left, top, wide, high]) => x < left + wide && left < x + w && y < top + high && top < y + h)
      .map(([other]) => `${name} and ${other}`),
  );
  return {
    prompt: (await app.graphToPrompt()).output,
    missing: app.graph.nodes.map((node) => node.type).filter((type) => !(type in LiteGraph.registered_node_types)),
    overlaps,
    app: [...document.querySelectorAll("[data-testid]")].some((item) => item.dataset.testid.startsWith("linear-")),
  };
}

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wan-duet-browser-"));
main(profile)
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => fs.rmSync(profile, { recursive: true, force: true }));
