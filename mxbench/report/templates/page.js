"use strict";
(() => {
  const words = document.body.dataset;

  // "1.23 ms", "45.6 %", "2.1×", "[3, 4]", "8.2–9" -> a number to sort by, or null for words.
  const units = { "µs": 1e-3, us: 1e-3, ms: 1, T: 1e12, G: 1e9, M: 1e6, k: 1e3 };
  const figure = (text) => {
    const m = /^\[?(-?[\d.]+(?:e[-+]?\d+)?)\s*([^\s\d,–\])(]*)/i.exec(text);
    return m && m[1] !== "." ? parseFloat(m[1]) * (units[m[2]] ?? 1) : null;
  };
  const compare = (a, b) => {
    const [x, y] = [figure(a), figure(b)];
    if (x !== null && y !== null) return x - y;
    if (x !== null || y !== null) return x !== null ? -1 : 1;
    return a.localeCompare(b, document.documentElement.lang, { numeric: true });
  };

  const enhance = (holder) => {
    const table = holder.querySelector("table"), body = table.tBodies[0];
    if (!body) return;
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    scroll.tabIndex = 0;
    table.replaceWith(scroll);
    scroll.append(table);
    const rows = [...body.rows];
    rows.forEach((row) => [...row.cells].forEach((cell) => {
      if (cell.textContent.length > 60) cell.classList.add("long");
    }));
    if (rows.length < 2) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      button.title = words.sort;
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const text = (row) => row.cells[column]?.textContent.trim() ?? "";
        const empty = (row) => ["", "–"].includes(text(row));
        rows.sort((a, b) => empty(a) - empty(b) || (down ? -1 : 1) * compare(text(a), text(b)));
        body.append(...rows);
      });
    });
    if (rows.length < 6) return;
    const bar = document.createElement("div"), input = document.createElement("input");
    const count = document.createElement("span");
    bar.className = "bar";
    input.type = "search";
    input.placeholder = words.filter;
    input.setAttribute("aria-label", words.filter);
    const show = () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
        shown += !row.hidden;
      });
      count.textContent = `${shown} / ${rows.length} ${words.rows}`;
    };
    input.addEventListener("input", show);
    show();
    bar.append(input, count);
    holder.prepend(bar);
  };
  document.querySelectorAll("div.table").forEach(enhance);

  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.getElementById("menu").addEventListener("click", () => document.body.classList.toggle("open"));
  document.querySelector("nav").addEventListener("click", (event) => {
    if (event.target.closest("a")) document.body.classList.remove("open");
  });
})();
