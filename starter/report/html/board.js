"use strict";
// Search, sorting and the picture's tips. Without it the page shows all the same.
const number = (cell) => {
  const text = cell.dataset.v ?? cell.textContent.trim();
  const value = parseFloat(text.replace(/[,%]/g, ""));
  return Number.isNaN(value) ? text.toLowerCase() : value;
};
const compare = (a, b) =>
  typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [number(row.cells[head.cellIndex]), row]);
    rows.sort((a, b) => (up ? compare(a[0], b[0]) : compare(b[0], a[0])));
    body.append(...rows.map(([, row]) => row));
  });
}

const search = document.getElementById("search");
if (search) {
  const count = document.getElementById("found");
  const rows = [...document.querySelectorAll("#board tbody tr")];
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    count.textContent = wanted ? `${shown} of ${rows.length}` : "";
  };
  search.closest("p").hidden = false;
  search.addEventListener("input", filter);
}

const tip = document.getElementById("tip");
for (const point of document.querySelectorAll("figure svg a")) {
  const show = () => {
    const box = point.getBoundingClientRect();
    const frame = tip.parentElement.getBoundingClientRect();
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    const left = box.left - frame.left + 12;
    tip.style.left = `${Math.max(0, Math.min(left, frame.width - tip.offsetWidth))}px`;
    tip.style.top = `${box.top - frame.top - tip.offsetHeight - 6}px`;
  };
  const hide = () => { tip.hidden = true; };
  point.addEventListener("mouseenter", show);
  point.addEventListener("focus", show);
  point.addEventListener("mouseleave", hide);
  point.addEventListener("blur", hide);
}
