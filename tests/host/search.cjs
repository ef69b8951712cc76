// Types words into the search for nodes, and prints as JSON {words: what is listed}.
//
//   node search.cjs URL '["words", ...]'

const { given, run } = require("./frontend.cjs");

run(async (page) => {
  const found = {};
  for (const words of JSON.parse(given[0])) {
    await page.mouse.dblclick(700, 500);
    const box = page.getByRole("dialog").locator("input").first();
    await box.waitFor();
    await page.keyboard.type(words);
    await page.waitForTimeout(1500); // the list follows the typing with a delay
    found[words] = await page.getByRole("dialog").first().innerText();
    await page.keyboard.press("Escape");
    await page.waitForTimeout(500);
  }
  return found;
});
