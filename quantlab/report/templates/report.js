"use strict";
(() => {
  const told = document.getElementById("sorted");

  // The first number of a cell, NaN without one.
  const number = (text) => {
    const found = text.replaceAll(",", "").match(/[+-]?\d+(\.\d+)?(e[+-]?\d+)?/i);
    return found ? Number(found[0]) : NaN;
  };
  const words = (text) => text.replace(/^[→✗]\s*/, "");

  // Rows by one column; cells without a number stay last either way.
  const order = (column, numeric, sign) => (a, b) => {
    const [x, y] = [a, b].map((row) => row.cells[column].textContent.trim());
    if (!numeric) return sign * words(x).localeCompare(words(y), "en", { numeric: true });
    const [m, n] = [number(x), number(y)];
    if (Number.isNaN(m) || Number.isNaN(n)) return Number.isNaN(m) - Number.isNaN(n);
    return sign * (m - n);
  };

  const sort = (table, head) => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    const numeric = head.classList.contains("right");
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order(head.cellIndex, numeric, ascending ? 1 : -1)));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    told.textContent = `Sorted by ${head.textContent}, ${ascending ? "ascending" : "descending"}`;
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    for (const head of table.querySelectorAll("thead th")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
    }
  }

  // What scrolls sideways can be reached with the keyboard.
  const reachable = () => {
    for (const box of document.querySelectorAll(".scroll")) {
      const wide = box.scrollWidth > box.clientWidth;
      const named = box.querySelector("caption").textContent;
      const marks = { tabindex: "0", role: "group", "aria-label": named };
      for (const [name, value] of Object.entries(marks)) {
        if (wide) box.setAttribute(name, value);
        else box.removeAttribute(name);
      }
    }
  };
  reachable();
  addEventListener("resize", reachable);
})();
