// Types words into the search for nodes, and prints as JSON {words: what is listed}.
//
//   node search.cjs URL '["words", ...]'

const { given, run } = require("./frontend.cjs");

run(async (page) => {
  const found = {};
  for (const words of JSON.parse(given[0])) {
    await page.mouse.dblclick(700, 500);
    await page.waitForTimeout(1000);
    await page.keyboard.type(words);
    await page.waitForTimeout(3000); // the list follows the typing with a delay
    found[words] = await page.locator("body").innerText(); // the graph is empty: only the list names nodes
    await page.keyboard.press("Escape");
    await page.waitForTimeout(500);
  }
  return found;
});
