"use strict";
// Sorting: a heading becomes a button. Without this script a table shows all the same.
const collator = new Intl.Collator(undefined, { numeric: true });
const sortKey = (cell, isText) => {
  const text = cell.dataset.v ?? cell.textContent.trim();
  if (isText) return text || null;
  const value = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(value) ? null : value;
};
const inOrder = (a, b) => (typeof a === "string" ? collator.compare(a, b) : a - b);

const sortBy = (head) => {
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = head.closest("table").tBodies[0];
  const isText = head.classList.contains("t");
  const rows = [...body.rows].map((row) => [sortKey(row.cells[head.cellIndex], isText), row]);
  // What has no value comes last in both orders.
  rows.sort(([a], [b]) =>
    a === null || b === null ? (a === null) - (b === null) : up ? inOrder(a, b) : inOrder(b, a));
  body.append(...rows.map(([, row]) => row));
};

for (const head of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => sortBy(head));
}
