// Keeps a page up to date: on news from the server it reads the page again and puts the new contents in place of the old.
"use strict";
(() => {
  const { events, poll } = document.currentScript.dataset;
  const status = document.getElementById.bind(document, "live");
  const say = (text) => { const at = status(); if (at) at.textContent = text; };
  let waiting = false, again = false;

  const read = async () => {
    if (waiting) { again = true; return; }
    waiting = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
        const old = document.querySelector("main");
        if (fresh && old.innerHTML !== fresh.innerHTML) {
          const log = old.querySelector("pre.live");
          const atEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
          old.replaceWith(fresh);
          const next = fresh.querySelector("pre.live");
          if (next) next.scrollTop = atEnd ? next.scrollHeight : log.scrollTop;
        }
      }
    } catch { say("not connected"); }
    // At most once a second, however much happens.
    setTimeout(() => { waiting = false; if (again) { again = false; read(); } }, 1000);
  };

  const source = new EventSource(events);
  source.onopen = () => say("live");
  source.onerror = () => say("not connected");
  for (const kind of ["state", "plan", "op", "verdict", "gone", "reset"]) source.addEventListener(kind, read);
  if (poll !== undefined) setInterval(read, 2000);
})();
