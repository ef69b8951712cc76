// Opens the settings of the pack in the real frontend, keeps a key there, and prints as JSON what a user sees.
//
//   node open_settings.cjs URL PROVIDER_NAME KEY SCREENSHOT.png
//
// PLAYWRIGHT_CORE is the module's folder, CHROMIUM the browser.

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const [url, provider, key, screenshot] = process.argv.slice(2);
const SIZE = { width: 1400, height: 900 };
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"];

async function main(profile) {
  await fetch(`${url}/settings/Comfy.TutorialCompleted`, { method: "POST", body: "true" });
  const options = { executablePath: process.env.CHROMIUM, headless: true, viewport: SIZE, args: ARGUMENTS };
  const browser = await chromium.launchPersistentContext(profile, options);
  try {
    const page = browser.pages()[0] ?? (await browser.newPage());
    page.setDefaultTimeout(120_000); // a machine that runs tests on all cores opens pages slowly
    await page.goto(url);
    await page.waitForFunction(() => window.app?.canvas && window.LiteGraph?.registered_node_types.WanDuetRunLocal);
    await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.ShowSettingsDialog"));
    await page.getByRole("dialog").getByText("Wan Duet", { exact: true }).first().click();
    const row = page.locator(`[data-wan-duet-key="${provider}"]`);
    const status = row.getByRole("status");
    const seen = { before: await settled(status) };
    await row.locator("input").fill(key);
    await row.locator("input").press("Enter");
    seen.kept = await settled(status);
    seen.field = await row.locator("input").inputValue();
    await page.screenshot({ path: screenshot });
    await row.getByRole("button", { name: "Forget" }).click();
    seen.forgotten = await settled(status);
    seen.settings = await (await fetch(`${url}/settings`)).text();
    console.log(JSON.stringify(seen));
  } finally {
    await browser.close();
  }
}

async function settled(status) {
  await status.filter({ hasText: /[a-z]/ }).waitFor();
  return status.textContent();
}

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wan-duet-browser-"));
main(profile)
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => fs.rmSync(profile, { recursive: true, force: true }));
