// Opens workflows, one after another, and prints as a JSON list what a user would see.
//
//   node open_templates.cjs URL '[{"workflow": "FILE.json", "vue": false, "lists": true, "screenshot": "OUT.png"}, ...]'
//
// `lists`: whether it names model files that are not here. Of each: `listed`, the files in ComfyUI's list of missing models; `prompt`, what Run would send; `missing`, node types
// that are not known; `overlaps`, pairs of nodes of which one lies on the other; `app`, whether app mode is shown.

const fs = require("fs");
const { QUIET, browse, given, openPage, print, set } = require("./frontend.cjs");

const [jobs] = given;
const SIZE = { width: 2000, height: 1100 };

async function main(browser) {
  try {
    const seen = [];
    let page;
    let vue;
    for (const job of JSON.parse(jobs)) {
      if (job.vue !== vue) {
        vue = job.vue;
        await set({ "Comfy.VueNodes.Enabled": vue });
        page = await openPage(await browser.newPage(), 180_000);
        await page.waitForTimeout(5000); // the first graph of the page has missing models of its own
      }
      seen.push(await open(page, job));
    }
    return seen;
  } finally {
    await set({ "Comfy.VueNodes.Enabled": false });
  }
}

async function open(page, { workflow, lists, screenshot }) {
  const graph = JSON.parse(fs.readFileSync(workflow, "utf8"));
  await page.bringToFront();
  await page.evaluate(() => window.app.loadGraphData({ version: 0.4, nodes: [], links: [], last_node_id: 0, last_link_id: 0 }));
  await page.waitForFunction(() => !document.querySelector('[data-testid="missing-model-actions"]'));
  await page.evaluate((given) => window.app.loadGraphData(given), graph);
  const listed = lists ? await listedFiles(page) : [];
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

print(set(QUIET).then(() => browse(main, SIZE)));
