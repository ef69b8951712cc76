// The report of Check as tables: one runner with a line for each field, or several side by side.
// A report is { runner, kind, ok, price, amount, seconds, official,
//               findings: [{ field, status, asked, used, reason }] }.

import { addStyle, element } from "./elements.js";

const STYLE = `
.wan-duet-check table { border-collapse: collapse; width: 100%; margin: 2px 0 8px; }
.wan-duet-check th, .wan-duet-check td { text-align: left; vertical-align: top; padding: 2px 6px 2px 0;
  border-bottom: 1px solid var(--border-color, #444); overflow-wrap: anywhere; min-width: 4em; font-weight: normal; }
.wan-duet-check th, .wan-duet-check td:first-child { white-space: nowrap; }
.wan-duet-check th { color: var(--descrip-text, #999); }
.wan-duet-check h4 { margin: 0 0 2px; font-size: 12px; }
.wan-duet-check .impossible, .wan-duet-check .no { color: var(--error-text, #f55); }
.wan-duet-check .adjusted, .wan-duet-check .warning { color: var(--warning-text, #d90); }
`;
const WORST_FIRST = ["impossible", "adjusted", "warning", "supported"];
const rank = ({ status }) => WORST_FIRST.indexOf(status);

export function checkReport(reports) {
  addStyle("wan-duet-check", STYLE);
  const parts = reports.length > 1 ? [sideBySide(reports)] : [];
  return element("div", { className: "wan-duet-check" }, ...parts, ...reports.flatMap(oneRunner));
}

function oneRunner(report) {
  const sorted = [...report.findings].sort((one, other) => rank(one) - rank(other));
  const told = sorted.filter(({ status }) => status !== "supported");
  const rest = sorted.filter(({ status }) => status === "supported");
  return [
    element("h4", { className: report.ok ? "" : "no" },
      `${report.kind} ${report.ok ? "can run" : "cannot run"} (${report.runner}) · price: ${report.price}`),
    ...(report.official ? [element("div", {}, report.official)] : []),
    ...(told.length ? [table(["field", "asked", "becomes", "why"], told.map(line))] : []),
    element("details", {},
      element("summary", {}, `${rest.length} fields as asked`),
      table(["field", "value"], rest.map(({ field, used }) => row([field, used])))),
  ];
}

function line({ field, status, asked, used, reason }) {
  const becomes = { adjusted: used, impossible: "refused", warning: asked }[status];
  return row([field, asked, becomes, reason], status);
}

function sideBySide(reports) {
  const fields = [...new Set(reports.flatMap((report) => report.findings.map(({ field }) => field)))];
  const lines = fields.map((field) => {
    const cells = reports.map(({ findings }) => {
      const worst = findings.filter((finding) => finding.field === field).sort((one, other) => rank(one) - rank(other))[0];
      return worst ? element("td", { className: worst.status, title: worst.reason }, verdict(worst)) : "-";
    });
    return row([field, ...cells]);
  });
  lines.unshift(
    row(["price", ...reports.map(({ amount }) => amount)]),
    row(["seconds", ...reports.map(({ seconds }) => seconds)]),
  );
  const names = reports.map(({ runner, ok }) => `${runner}: ${ok ? "can run" : "cannot run"}`);
  return table(["field", ...names], lines);
}

const verdict = ({ status, used }) => (status === "adjusted" ? `becomes ${used}` : status);

function table(names, lines) {
  const head = element("tr", {}, ...names.map((name) => element("th", {}, name)));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
}

function row(cells, className = "") {
  return element("tr", { className }, ...cells.map((cell) => (cell instanceof Element ? cell : element("td", {}, cell))));
}
