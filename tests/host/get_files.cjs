// Presses *Get files* on Load Model in the real frontend, lets it download, and prints as JSON what a user sees.
//
//   node get_files.cjs URL WORKFLOW.json VUE(true|false) SCREENSHOT.png
//
// `before` and `after`: the rows of the dialog, as "state name"; `offer`: the text of the download button; `status`:
// what is said at the end; `values`: how many values the node saves; `choices`: whether the VAE is in its list now.

const fs = require("fs");
const { browse, firstPage, given, openPage, print, set } = require("./frontend.cjs");

const [workflow, vue, screenshot] = given;
const SIZE = { width: 1800, height: 1000 };

async function main(browser) {
  const page = await openPage(await firstPage(browser), 180_000);
  await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(fs.readFileSync(workflow, "utf8")));
  await page.evaluate(() => {
    window.loader = () => window.app.graph.nodes.find((node) => node.type === "WanDuetLoadModel");
  });
  if (vue === "true") {
    await page.keyboard.press(".");
    await page.getByRole("button", { name: "Get files", exact: true }).click({ force: true });
  } else {
    await page.evaluate(() => loader().widgets.find((widget) => widget.name === "Get files").callback());
  }
  const dialog = page.locator("[data-wan-duet-get-files]");
  const download = dialog.getByRole("button", { name: /^Download/ });
  await dialog.locator("tr").first().waitFor();
  const seen = { before: await rows(dialog), offer: await download.innerText() };
  await page.screenshot({ path: screenshot });
  await download.click();
  await dialog.getByText(/All files are here|is listed|stopped|answered/).waitFor();
  seen.status = await dialog.getByRole("status").innerText();
  seen.after = await rows(dialog);
  await page.waitForTimeout(2000);
  Object.assign(seen, await page.evaluate(() => {
    const node = loader();
    const vae = node.widgets.find((widget) => widget.name === "vae");
    const values = vae.options.values;
    return {
      values: node.serialize().widgets_values.length,
      choices: (typeof values === "function" ? values(vae, node) : values).includes(vae.value),
    };
  }));
  return seen;
}

async function rows(dialog) {
  const cells = await dialog.locator("tr").allInnerTexts();
  return cells.map((text) => text.split(/\t|\n/).slice(0, 2).map((cell) => cell.trim()).join(" ")).sort();
}

const settings = { "Comfy.TutorialCompleted": true, "Comfy.VueNodes.Enabled": vue === "true" };
print(set(settings).then(() => browse(main, SIZE)));
