"use strict";
// Search and the picture's tips. Without it the page shows all the same.
const search = document.getElementById("search");
if (search) {
  const count = document.getElementById("found");
  const rows = [...document.querySelectorAll("#board tbody tr")];
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const names = [...row.querySelectorAll(".t")].map((cell) => cell.textContent);
      row.hidden = !names.some((name) => name.toLowerCase().includes(wanted));
      shown += !row.hidden;
    }
    count.textContent = wanted ? `${shown} of ${rows.length}` : "";
  };
  search.closest("span").hidden = false;
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
