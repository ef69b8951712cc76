// Opens workflows in the real frontend, one after another in one browser, and prints as a JSON list what a user would
// see of each.
//
//   node open_workflow.cjs URL '[{"workflow": "FILE.json", "screenshot": "OUT.png", "run": false, "append": "NODE"}, ...]'
//
// `workflow` may be the name of a blueprint too. A blueprint is inserted into an empty graph, and the picture shows what
// is inside. With `run` the workflow is run first, so that the picture shows the finished video. With `append` the nodes
// of this class have one input more than ComfyUI says, as in a later version: "appended", optional, 5 by default.
// PLAYWRIGHT_CORE is the module's folder, CHROMIUM the browser.

const fs = require("fs");
const { QUIET, browse, given, openPage, print, set, url } = require("./frontend.cjs");

const [jobs] = given;
const SIZE = { width: 2000, height: 1000 };
// The page opens with a graph of its own and asks the web for the sizes of its models, at any time. It also asks
// for a list of the user's workflows that a new user does not have, on a busy machine late.
const OF_ITS_FIRST_GRAPH = /missingModelDownload|workflows%2F\.index\.json/;

async function main(browser) {
  const pages = new Map(); // by the node that has an input more there
  const seen = [];
  for (const job of JSON.parse(jobs)) {
    if (!pages.has(job.append)) pages.set(job.append, await openWatched(browser, job.append));
    seen.push(await open(pages.get(job.append), job));
  }
  return seen;
}

async function openWatched(browser, append) {
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (line) => {
    const { url: from } = line.location();
    if (line.type() !== "error" || OF_ITS_FIRST_GRAPH.test(from)) return;
    errors.push(`${line.text()} (${from})`);
  });
  if (append) await page.route("**/object_info", (route) => withOneInputMore(route, append));
  await openPage(page, 120_000);
  // The page has errors of its own: a new user's settings do not exist yet.
  for (let before = -1; before !== errors.length; ) {
    before = errors.length;
    await page.waitForTimeout(2000);
  }
  return { page, errors };
}

async function open({ page, errors }, { workflow, screenshot, run }) {
  await page.bringToFront();
  const before = errors.length;
  const isBlueprint = !workflow.endsWith(".json");
  if (isBlueprint) await insertBlueprint(page, workflow);
  else await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(fs.readFileSync(workflow, "utf8")));
  const prompt = await page.evaluate(async () => (await window.app.graphToPrompt()).output);
  if (run) {
    await page.evaluate(() => window.app.queuePrompt(0));
    let left = 1;
    while (left > 0) {
      await page.waitForTimeout(500);
      left = (await (await fetch(`${url}/prompt`)).json()).exec_info.queue_remaining;
    }
  }
  if (isBlueprint) await page.evaluate(() => {
    const [node] = window.app.graph.nodes;
    window.app.canvas.openSubgraph(node.subgraph, node);
  });
  await page.mouse.move(SIZE.width / 2, SIZE.height - 20); // away, without a tooltip
  await page.evaluate(() => {
    window.app.canvas.deselectAll();
    window.app.canvas.canvas.focus();
  });
  await page.keyboard.press("."); // fit the graph into the window
  const clip = await restingPlace(page);
  await page.screenshot({ path: screenshot, clip });
  const seen = await page.evaluate(() => ({
    missing: window.app.graph.nodes
      .flatMap((node) => [node, ...(node.subgraph?.nodes ?? [])])
      .map((node) => node.type)
      .filter((type) => !(type in window.LiteGraph.registered_node_types)),
    dialogs: [...document.querySelectorAll('[role="dialog"]')].map((dialog) => dialog.innerText),
  }));
  return { ...seen, prompt, errors: errors.slice(before) };
}

// Where the whole graph is on the page, with a margin, once it is all inside the window and has stopped gliding there.
async function restingPlace(page) {
  const deadline = Date.now() + 120_000;
  for (let before = ""; ; ) {
    await page.waitForTimeout(1000);
    const place = await page.evaluate(() => {
      const { canvas } = window.app;
      const { graph } = canvas;
      const ends = [graph.inputNode, graph.outputNode].filter(Boolean);
      const boxes = [...graph.nodes, ...graph.groups, ...ends].map((item) => [...item.boundingRect]);
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
    const now = JSON.stringify(place);
    const inside =
      place.x >= 0 && place.y >= 0 && place.x + place.width <= SIZE.width && place.y + place.height <= SIZE.height;
    if (inside && now === before) return place;
    if (Date.now() > deadline) throw new Error(`The graph does not come to rest inside the window: ${now}`);
    before = now;
  }
}

// As a user does: a double click on the empty canvas, the name, Enter, and a click where it should lie.
async function insertBlueprint(page, name) {
  await page.evaluate(() => window.app.loadGraphData({ version: 0.4, nodes: [], links: [], last_node_id: 0, last_link_id: 0 }));
  const chosen = () => page.waitForFunction(() => window.app.graph.nodes.length === 1, null, { timeout: 5_000 });
  // On a busy machine Enter can come before the list has a first entry; then it does nothing.
  for (let tries = 1; ; tries++) {
    await page.mouse.dblclick(SIZE.width / 2, SIZE.height / 2);
    await page.keyboard.type(name);
    await page.getByText(name).first().waitFor();
    await page.keyboard.press("Enter");
    try {
      await chosen();
      break;
    } catch (error) {
      if (tries === 10) throw error;
      await page.keyboard.press("Escape");
    }
  }
  const placed = () => page.evaluate(() => window.app.graph.nodes[0]?.flags.ghost === undefined);
  while (!(await placed())) {
    await page.mouse.move(SIZE.width / 3, SIZE.height / 4, { steps: 5 });
    await page.mouse.click(SIZE.width / 3, SIZE.height / 4);
    await page.waitForTimeout(200);
  }
}

async function withOneInputMore(route, node) {
  const answer = await route.fetch();
  const nodes = await answer.json();
  (nodes[node].input.optional ??= {}).appended = ["INT", { default: 5, min: 0, max: 9 }];
  (nodes[node].input_order.optional ??= []).push("appended");
  await route.fulfill({ response: answer, json: nodes });
}

print(set(QUIET).then(() => browse(main, SIZE)));
