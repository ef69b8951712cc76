// Opens a workflow that is an app in the real frontend, changes prompt, picture and seed there, runs it, and prints as
// JSON what was sent and which video is shown.
//
//   node run_app.cjs URL WORKFLOW.json PICTURE.png PROMPT SEED BEFORE.png AFTER.png

const fs = require("fs");
const { browse, firstPage, given, openPage, print, set } = require("./frontend.cjs");

const [workflow, picture, prompt, seed, before, after] = given;
const SIZE = { width: 1600, height: 950 };

async function main(browser) {
  const page = await openPage(await firstPage(browser), 240_000);
  await page.waitForTimeout(4000); // the first graph of the page is its own
  await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(fs.readFileSync(workflow, "utf8")));
  await page.waitForTimeout(6000);
  const tour = page.getByRole("button", { name: "Skip", exact: true }); // 0.33 offers one
  if (await tour.count()) await tour.first().click();
  await page.waitForTimeout(1500);
  await page.screenshot({ path: before });
  await page.locator("textarea:visible").first().fill(prompt);
  await setSeed(page);
  await page.locator('input[type="file"]').first().setInputFiles(picture);
  await page.waitForTimeout(4000); // the upload
  const sent = await page.evaluate(async () => Object.values((await window.app.graphToPrompt()).output));
  await page.getByRole("button", { name: "Run", exact: true }).first().click();
  const video = page.locator("video").first();
  await video.waitFor();
  await page.waitForTimeout(3000);
  await page.screenshot({ path: after });
  return { sent, video: await video.evaluate((shown) => shown.currentSrc) };
}

async function setSeed(page) {
  const fields = page.locator("input:visible");
  for (let index = 0; index < (await fields.count()); index++) {
    const field = fields.nth(index);
    if ((await field.inputValue()) !== "7") continue;
    await field.fill(seed);
    await field.press("Enter");
    return;
  }
  throw new Error("The app shows no field with the seed of the workflow");
}

print(set({ "Comfy.TutorialCompleted": true }).then(() => browse(main, SIZE)));
