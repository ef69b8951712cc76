// Uses the table of LoRAs as a user does, and prints as JSON what the input `rows` holds after each step.
//
//   node lora_rows.cjs URL vue|classic SCREENSHOT.png

const { addNode, given, openEmpty, run } = require("./frontend.cjs");

const [canvas, screenshot] = given;
const MANY = Array.from({ length: 50 }, (_, i) => ({ file: `style/l${i}.safetensors`, high: 1, low: 0.5, on: true }));

const rowsOf = (page, id) =>
  page.evaluate((id) => JSON.parse(window.app.graph.getNodeById(id).widgets.find(({ name }) => name === "rows").value), id);
const graph = (page) => page.evaluate(() => window.app.graph.serialize());
const sent = (page) =>
  page.evaluate(async () => Object.values((await window.app.graphToPrompt()).output).map(({ inputs }) => inputs.rows));

async function work(page) {
  const seen = { errors: [] };
  page.on("pageerror", (error) => seen.errors.push(error.message));
  const id = await addNode(page, "WanDuetLora", [420, 640]);
  const table = page.locator(".wan-duet-loras");
  await table.waitFor();
  for (const file of ["toy/circling", "gone.safetensors"]) {
    await table.getByText("+ Add LoRA").click();
    await table.locator("input[list]").last().fill(file);
    await page.keyboard.press("Tab");
  }
  await table.locator("input[type=number]").nth(1).fill("0.4");
  await page.keyboard.press("Tab");
  await table.locator("tbody input[type=checkbox]").nth(1).click();
  seen.filled = await rowsOf(page, id);
  await table.getByText("not in models/loras").waitFor();
  await table.getByText("no trigger words known").waitFor();
  seen.notes = await table.locator("tbody small").allTextContents();
  await page.screenshot({ path: screenshot });

  await table.locator(".handle").first().focus();
  await page.keyboard.press("ArrowDown");
  seen.moved = await rowsOf(page, id);
  await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.Undo"));
  await page.waitForFunction((id) => window.app.graph.getNodeById(id)?.widgets.at(-2).value.startsWith('[{"file":"toy'), id);
  seen.undone = await rowsOf(page, id);
  await page.waitForFunction(() => document.querySelector(".wan-duet-loras input[list]")?.value.startsWith("toy"));
  seen.shownAfterUndo = await table.locator("input[list]").evaluateAll((inputs) => inputs.map(({ value }) => value));

  seen.pasted = await page.evaluate((id) => {
    const { canvas, graph } = window.app;
    canvas.selectItems([graph.getNodeById(id)]);
    canvas.copyToClipboard();
    canvas.pasteFromClipboard();
    const copy = graph.nodes.find((node) => node.id !== id);
    const rows = JSON.parse(copy.widgets.find(({ name }) => name === "rows").value);
    graph.remove(copy);
    return rows;
  }, id);
  seen.sent = await sent(page);

  const saved = await graph(page);
  seen.savedValues = saved.nodes[0].widgets_values.length;
  await openEmpty(page);
  await page.evaluate((saved) => window.app.loadGraphData(saved), saved);
  seen.reloaded = await rowsOf(page, id);

  seen.promoted = await page.evaluate(async (id) => {
    const { canvas, graph } = window.app;
    const { subgraph, node } = graph.convertToSubgraph(new Set([graph.getNodeById(id)]));
    const inner = subgraph.nodes.find(({ type }) => type === "WanDuetLora");
    const slot = inner.inputs.find((input) => input.widget?.name === "rows");
    const input = subgraph.addInput("rows", "STRING");
    input.connect(slot, inner);
    const outer = node.widgets.find(({ name }) => name === "rows");
    const before = outer.value;
    outer.value = JSON.stringify([{ file: "toy/outlined" }]);
    const { output } = await window.app.graphToPrompt();
    const rows = Object.values(output).map(({ inputs }) => inputs.rows);
    canvas.setDirty(true, true);
    return { before: JSON.parse(before), sent: rows };
  }, id);

  await page.evaluate(() => window.app.graph.clear());
  const many = await addNode(page, "WanDuetLora", [420, 700]);
  await page.evaluate(
    ([id, text]) => {
      const widget = window.app.graph.getNodeById(id).widgets.find(({ name }) => name === "rows");
      widget.value = text;
      widget.callback?.(text);
    },
    [many, JSON.stringify(MANY)],
  );
  const shown = page.locator(".wan-duet-loras:visible"); // ComfyUI hides, and keeps, the table inside the subgraph
  await shown.locator("tbody tr").nth(49).waitFor();
  const last = shown.locator("input[list]").nth(49);
  await last.scrollIntoViewIfNeeded();
  await last.fill("toy/outlined");
  await page.keyboard.press("Tab");
  seen.last = (await rowsOf(page, many))[49];
  seen.height = await page.evaluate((id) => window.app.graph.getNodeById(id).size[1], many);
  return seen;
}

run(work, { vueNodes: canvas === "vue" });
