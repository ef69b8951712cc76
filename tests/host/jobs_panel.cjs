// Orders a job, opens the jobs panel and uses it, and prints as JSON what a user sees.
//
//   node jobs_panel.cjs URL dark|light SCREENSHOT.png WORKFLOW.json
//
// There is one finished job before; the provider lets the new one wait.

const fs = require("fs");
const { given, run } = require("./frontend.cjs");

const [theme, screenshot, workflow] = given;

async function work(page) {
  await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(fs.readFileSync(workflow, "utf8")));
  await page.evaluate(() => window.app.queuePrompt(0));
  await page.evaluate(() => window.app.extensionManager.sidebarTab.toggleSidebarTab("wan-duet-jobs"));
  const panel = page.locator(".wan-duet-jobs");
  const cards = panel.locator("article[data-wan-duet-job]");
  const cancel = page.getByRole("button", { name: "Cancel", exact: true });
  const [waiting, done] = [cards.filter({ has: cancel }), cards.filter({ hasText: "done" })];
  await waiting.waitFor();
  await page.waitForFunction(() => document.querySelector(".wan-duet-jobs video")?.readyState >= 1);
  const seen = { money: await panel.locator(".money").textContent(), cards: await cards.allInnerTexts() };
  seen.width = await done.locator("video").evaluate((video) => video.videoWidth);
  await page.screenshot({ path: screenshot });

  const opened = page.waitForEvent("popup");
  await done.getByText("Open file").click();
  seen.opened = new URL((await opened).url()).pathname;

  await page.evaluate(() => window.app.graph.clear());
  await waiting.getByText("Workflow").click();
  await page.waitForFunction(() => window.app.graph.nodes.length > 0);
  seen.workflow = await page.evaluate(() => window.app.graph.nodes.map(({ type }) => type));

  await waiting.getByRole("button", { name: "Cancel", exact: true }).click();
  const stopped = cards.filter({ hasText: /stopping|cancelled/ });
  await stopped.waitFor();
  seen.stopped = await stopped.innerText();

  await done.getByText("Forget").click();
  await page.getByRole("dialog").getByRole("button", { name: /confirm/i }).click();
  await done.waitFor({ state: "detached" });
  seen.left = await cards.count();
  return seen;
}

run(work, { light: theme === "light", vueNodes: false });
