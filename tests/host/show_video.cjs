// Runs a workflow with live previews on, in the real frontend, and prints as JSON what its nodes show afterwards.
//
//   node show_video.cjs URL FILE.json VUE_NODES SCREENSHOT.png
//
// VUE_NODES is true for Nodes 2.0, false for the classic canvas. PLAYWRIGHT_CORE is the module's folder, CHROMIUM the
// browser.

const fs = require("fs");
const os = require("os");
const path = require("path");
const { chromium } = require(process.env.PLAYWRIGHT_CORE);

const [url, workflow, vueNodes, screenshot] = process.argv.slice(2);
const SIZE = { width: 2000, height: 1000 };
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"];

async function main(profile) {
  const settings = {
    "Comfy.TutorialCompleted": true, "Comfy.Workflow.Persist": false,
    "Comfy.Execution.PreviewMethod": "latent2rgb", "Comfy.VueNodes.Enabled": vueNodes === "true",
  };
  const before = await (await fetch(`${url}/settings`)).json();
  for (const [name, value] of Object.entries(settings)) await setting(name, value);
  const options = { executablePath: process.env.CHROMIUM, headless: true, viewport: SIZE, args: ARGUMENTS };
  const browser = await chromium.launchPersistentContext(profile, options);
  try {
    const page = browser.pages()[0] ?? (await browser.newPage());
    page.setDefaultTimeout(240_000); // a machine that runs tests on all cores opens pages slowly
    await page.goto(url);
    await page.waitForFunction(() => window.app?.canvas && window.LiteGraph?.registered_node_types.WanDuetRunLocal);
    await page.evaluate((graph) => window.app.loadGraphData(graph), JSON.parse(fs.readFileSync(workflow, "utf8")));
    await page.evaluate(() => {
      window.previews = 0;
      window.app.api.addEventListener("b_preview", () => (window.previews += 1));
      window.app.canvas.deselectAll();
      window.app.canvas.canvas.focus();
    });
    await page.keyboard.press("."); // fit the graph into the window: what is outside is not drawn
    await page.evaluate(() => window.app.queuePrompt(0));
    for (let left = 1; left > 0; ) {
      await page.waitForTimeout(500);
      left = (await (await fetch(`${url}/prompt`)).json()).exec_info.queue_remaining;
    }
    await page.waitForTimeout(5000);
    await page.screenshot({ path: screenshot });
    const seen = await page.evaluate(() => ({
      previews: window.previews,
      left: Object.keys(window.app.nodePreviewImages),
      videos: [...document.querySelectorAll("video")].map(({ src, currentSrc, readyState, error }) => ({
        src: currentSrc || src, readyState, error: error?.message ?? null,
      })),
      failed: document.body.innerText.includes("failed to load"),
    }));
    console.log(JSON.stringify(seen));
  } finally {
    await browser.close();
    const usual = { "Comfy.Execution.PreviewMethod": "default", "Comfy.VueNodes.Enabled": false };
    for (const [name, value] of Object.entries(usual)) await setting(name, before[name] ?? value);
  }
}

async function setting(name, value) {
  await fetch(`${url}/settings/${name}`, { method: "POST", body: JSON.stringify(value) });
}

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "wan-duet-browser-"));
main(profile)
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(() => fs.rmSync(profile, { recursive: true, force: true }));
