// Runs Sigmas, LoRA, Check and Encode Prompt once, and prints as JSON what each draws on its node.
//
//   node results.cjs URL vue|classic dark|light SCREENSHOT.png

const { addNode, given, run, url } = require("./frontend.cjs");

const [canvas, theme, screenshot] = given;

async function work(page) {
  const ids = {};
  for (const [name, kind, size, position] of [
    ["model", "WanDuetLoadModel", null, [-420, 0]],
    ["request", "WanDuetTextToVideo", null, [-420, 420]],
    ["sigmas", "WanDuetSigmas", [330, 420], [0, 0]],
    ["lora", "WanDuetLora", [360, 660], [350, 0]],
    ["check", "WanDuetCheck", [560, 480], [730, 0]],
    ["encode", "WanDuetEncodePrompt", null, [-420, 900]],
    ["shownPrompt", "PreviewAny", null, [0, 1020]],
    ["shownSigmas", "PreviewAny", null, [0, 500]],
    ["shownLora", "PreviewAny", null, [0, 760]],
  ]) {
    ids[name] = await addNode(page, kind, size, position);
  }
  await page.evaluate((ids) => {
    const node = (name) => window.app.graph.getNodeById(ids[name]);
    const set = (name, widget, value) => (node(name).widgets.find((one) => one.name === widget).value = value);
    const connect = (from, slot, to, input) => node(from).connect(slot, node(to), node(to).findInputSlot(input));
    connect("model", 0, "sigmas", "model");
    connect("model", 0, "lora", "model");
    connect("request", 0, "check", "request");
    connect("model", 0, "encode", "model");
    connect("encode", 0, "shownPrompt", "source");
    connect("sigmas", 2, "shownSigmas", "source");
    connect("lora", 1, "shownLora", "source");
    set("request", "prompt", "a red ball");
    set("encode", "prompt", "a (red:1.4) ball");
    set("check", "runner", "all");
    set("lora", "file", "toy/circling");
    Object.assign(window.app.canvas.ds, { scale: 0.8, offset: [520, 90] });
  }, ids);
  await page.evaluate(() => window.app.queuePrompt(0));
  await page.locator(".wan-duet-check").waitFor();
  await page.locator(".wan-duet-coverage").waitFor();
  await page.locator(".wan-duet-findings").waitFor();
  await page.waitForTimeout(1000);
  await page.screenshot({ path: screenshot });
  const ink = (element) => getComputedStyle(element).fill;
  return {
    pictures: await page.locator(".wan-duet-sigmas").evaluateAll((all) => all.map((svg) => svg.getAttribute("aria-label"))),
    ink: await page.locator(".wan-duet-sigmas text").first().evaluate(ink),
    report: await page.locator(".wan-duet-report").textContent(),
    findings: await page.locator(".wan-duet-findings").allTextContents(),
    cells: await page.locator(".wan-duet-coverage rect").count(),
    head: await page.locator(".wan-duet-check thead").first().locator("th").allTextContents(),
    fields: await page.locator(".wan-duet-check tbody").first().locator("td:first-child").allTextContents(),
    verdicts: await page.locator(".wan-duet-check h4").allTextContents(),
    queue: (await (await fetch(`${url}/prompt`)).json()).exec_info.queue_remaining,
  };
}

run(work, { vueNodes: canvas === "vue", light: theme === "light" });
