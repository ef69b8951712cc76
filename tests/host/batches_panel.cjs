// Opens the jobs panel while a batch runs, cancels its rows and lets them wait again, and prints as JSON what a user sees.
//
//   node batches_panel.cjs URL BATCH SCREENSHOT.png

const { given, run } = require("./frontend.cjs");

const [batch, screenshot] = given;

async function work(page) {
  await page.evaluate(() => window.app.extensionManager.sidebarTab.toggleSidebarTab("wan-duet-jobs"));
  const panel = page.locator(".wan-duet-jobs");
  const card = panel.locator(`article[data-wan-duet-batch="${batch}"]`);
  const said = async (words) => {
    await card.filter({ hasText: words }).waitFor();
    return card.innerText();
  };
  const seen = { runs: await said("1 running") };
  seen.rule = await panel.locator(".batches").innerText();
  const fleet = panel.locator("article").filter({ hasText: "Run Fleet at" });
  seen.fleet = await fleet.innerText();
  seen.buttonsOfFleet = await fleet.getByRole("button").count();
  await page.screenshot({ path: screenshot });
  await card.getByRole("button", { name: "Cancel", exact: true }).click();
  seen.cancelled = await said("4 cancelled");
  await card.getByRole("button", { name: "Retry", exact: true }).click();
  seen.retried = await said("waiting");
  return seen;
}

run(work);
