// Opens a workflow that is an app in the real frontend, changes prompt, picture and seed there, runs it, and prints as
// JSON what was sent and which video is shown.
//
//   node run_app.cjs URL WORKFLOW.json PICTURE.png PROMPT SEED BEFORE.png AFTER.png

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const [url, workflow, picture, prompt, seed, before, after] = process.argv.slice(2);
const SIZE = { width: 1600, height: 950 };
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"];

async function main(profile) {
  await fetch(`${url}/settings/Comfy.TutorialCompleted`, { method: "POST", body: "true" });
  const options = { executablePath: process.env.CHROMIUM, headless: true, viewport: SIZE, args: ARGUMENTS };
  const browser = await chromium.launchPersistentContext(profile, options);
  try {
    const page = browser.pages()[0] ?? (await browser.newPage());
    page.setDefaultTimeout(240_000); // a machine that runs tests on all cores opens pages slowly
    await page.goto(url);
    await page.waitForFunction(() => window.app?.canvas && window.LiteGraph?.registered_node_types.WanDuetRunLocal);
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
    console.log(JSON.stringify({ sent, video: await video.evaluate((shown) => shown.currentSrc) }));
  } finally {
    await browser.close();
  }
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

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wan-duet-browser-"));
main(profile)
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => fs.rmSync(profile, { recursive: true, force: true }));
