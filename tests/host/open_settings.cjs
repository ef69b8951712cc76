// Opens the settings of the pack in the real frontend, keeps a key there, and prints as JSON what a user sees.
//
//   node open_settings.cjs URL PROVIDER_NAME KEY SCREENSHOT.png
//
// PLAYWRIGHT_CORE is the module's folder, CHROMIUM the browser.

const { browse, firstPage, given, openPage, print, set, url } = require("./frontend.cjs");

const [provider, key, screenshot] = given;

async function main(browser) {
  const page = await openPage(await firstPage(browser), 120_000);
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
  return seen;
}

async function settled(status) {
  await status.filter({ hasText: /[a-z]/ }).waitFor();
  return status.textContent();
}

print(set({ "Comfy.TutorialCompleted": true }).then(() => browse(main)));
