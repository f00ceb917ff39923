// Filters, sorts and pages the table of crates, and keeps that in the address, so that a link shows the same.
// Without it the table is whole, the verdicts are links.
"use strict";
(() => {
  const PAGE = 500;
  const body = document.querySelector(".crates tbody");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const more = document.getElementById("more");
  const chips = [...document.querySelectorAll(".chip")];
  const count = new Intl.NumberFormat("en");
  let rows = [...body.rows].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  let limit = PAGE;

  function show() {
    const verdicts = new Set(chips.filter((chip) => chip.ariaPressed === "true").map((chip) => chip.dataset.verdict));
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let matches = 0;
    for (const { row, text } of rows) {
      const fits = (verdicts.size === 0 || verdicts.has(row.dataset.verdict)) && words.every((word) => text.includes(word));
      if (fits) matches += 1;
      row.hidden = !fits || matches > limit;
    }
    shown.textContent = `${count.format(matches)} of ${count.format(rows.length)} crates`;
    more.hidden = matches <= limit;
    more.textContent = `Show all ${count.format(matches)}`;
  }

  // The part of the address behind `#`: `verdict=regressed,broken&q=serde&sort=time`. A lone verdict, as in a link to its
  // first row, filters too.
  function write() {
    const state = new URLSearchParams();
    const verdicts = chips.filter((chip) => chip.ariaPressed === "true").map((chip) => chip.dataset.verdict);
    if (verdicts.length > 0) state.set("verdict", verdicts.join(","));
    if (search.value) state.set("q", search.value);
    const head = heads.find((head) => head.ariaSort);
    if (head) state.set("sort", `${head.ariaSort === "descending" ? "-" : ""}${heads.indexOf(head)}`);
    history.replaceState(null, "", `#${state}`);
  }

  function read() {
    const text = location.hash.slice(1);
    const lone = chips.some((chip) => chip.dataset.verdict === text);
    const state = new URLSearchParams(lone ? `verdict=${text}` : text);
    const verdicts = (state.get("verdict") ?? "").split(",");
    for (const chip of chips) chip.ariaPressed = String(verdicts.includes(chip.dataset.verdict));
    search.value = state.get("q") ?? "";
    const order = state.get("sort");
    const head = order === null ? undefined : heads[Math.abs(Number.parseInt(order, 10))];
    if (head) sort(head, order.startsWith("-"));
    limit = PAGE;
    show();
  }

  function filter() {
    limit = PAGE;
    show();
    write();
  }

  for (const chip of chips) {
    chip.setAttribute("role", "button");
    chip.ariaPressed = "false";
    const toggle = (event) => {
      event.preventDefault();
      chip.ariaPressed = String(chip.ariaPressed !== "true");
      filter();
    };
    chip.addEventListener("click", toggle);
    chip.addEventListener("keydown", (event) => { if (event.key === " ") toggle(event); });
  }

  const keys = {
    text: (cell) => cell.textContent.trim().toLowerCase(),
    order: (cell) => Number(cell.dataset.order),
    number: (cell) => Number(cell.dataset.number),
  };
  const heads = [...document.querySelectorAll(".crates th[data-sort]")];
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      sort(head, head.ariaSort === "ascending");
      show();
      write();
    });
  }

  function sort(head, descending) {
    for (const other of heads) other.removeAttribute("aria-sort");
    head.ariaSort = descending ? "descending" : "ascending";
    const key = keys[head.dataset.sort];
    const keyed = rows.map((entry) => [key(entry.row.cells[head.cellIndex]), entry]);
    const sign = descending ? -1 : 1;
    keyed.sort(([a], [b]) => (a < b ? -sign : a > b ? sign : 0));
    rows = keyed.map(([, entry]) => entry);
    body.append(...rows.map(({ row }) => row));
  }

  search.addEventListener("input", filter);
  more.addEventListener("click", () => { limit = Infinity; show(); });
  document.querySelector(".tools").hidden = false;
  window.addEventListener("hashchange", read);
  read();
})();
