// Runs a workflow with live previews on, in the real frontend, and prints as JSON what its nodes show afterwards.
//
//   node show_video.cjs URL FILE.json VUE_NODES SCREENSHOT.png
//
// VUE_NODES is true for Nodes 2.0, false for the classic canvas. PLAYWRIGHT_CORE is the module's folder, CHROMIUM the
// browser.

const fs = require("fs");
const { browse, firstPage, given, openPage, print, set, url } = require("./frontend.cjs");

const [workflow, vueNodes, screenshot] = given;
const SIZE = { width: 2000, height: 1000 };

async function look(browser) {
  const page = await openPage(await firstPage(browser), 240_000);
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
  return page.evaluate(() => ({
    previews: window.previews,
    left: Object.keys(window.app.nodePreviewImages),
    videos: [...document.querySelectorAll("video")].map(({ src, currentSrc, readyState, error }) => ({
      src: currentSrc || src, readyState, error: error?.message ?? null,
    })),
    failed: document.body.innerText.includes("failed to load"),
  }));
}

async function main() {
  const before = await (await fetch(`${url}/settings`)).json();
  await set({
    "Comfy.TutorialCompleted": true, "Comfy.Workflow.Persist": false,
    "Comfy.Execution.PreviewMethod": "latent2rgb", "Comfy.VueNodes.Enabled": vueNodes === "true",
  });
  try {
    return await browse(look, SIZE);
  } finally {
    await set({
      "Comfy.Execution.PreviewMethod": before["Comfy.Execution.PreviewMethod"] ?? "default",
      "Comfy.VueNodes.Enabled": before["Comfy.VueNodes.Enabled"] ?? false,
    });
  }
}

print(main());
