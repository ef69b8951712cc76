// Opens the help panel of nodes and prints as a JSON list what is in it.
//
//   node show_help.cjs URL '["WanDuetTextToVideo", ...]' OUT.png
//
// Of each node: `text`, what the panel says; `over`, by how many pixels the widest part of it is wider than the
// panel, which a user would not see.

const { addNode, given, run } = require("./frontend.cjs");

const [kinds, picture] = given;

run(async (page) => {
  const seen = [];
  for (const kind of JSON.parse(kinds)) {
    await page.evaluate(() => window.app.graph.clear());
    await addNode(page, kind, null, [40, 200]);
    await page.waitForTimeout(1000); // until it is drawn
    await page.mouse.click(360, 245); // on its title; what is selected has a toolbox above it
    await page.getByTestId("info-button").click();
    const panel = page.locator(".node-help-content");
    const title = await page.evaluate(() => window.app.graph.nodes[0].title);
    await panel.locator("h1", { hasText: title }).waitFor(); // not that of the node before
    seen.push(await panel.evaluate(described));
    await page.screenshot({ path: picture });
  }
  return seen;
});

function described(panel) {
  const right = panel.getBoundingClientRect().right;
  const parts = [...panel.querySelectorAll("*")].map((part) => part.getBoundingClientRect().right - right);
  return { text: panel.innerText, over: Math.max(0, ...parts) };
}
