/* Suggestions while typing, copy buttons, ages of times, news. Every page works
   without this script. */
"use strict";
(() => {
  const search = document.getElementById("search");

  // "/" goes to the search box, as on pkg.go.dev.
  document.addEventListener("keydown", (e) => {
    const typing = e.target.closest("input, textarea, select, [contenteditable]");
    if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey && search) {
      e.preventDefault();
      search.focus();
      search.select();
    }
  });

  /* Suggestions: the combobox pattern of the ARIA Authoring Practices, with a
     list that never takes the focus. */
  function suggestions(input) {
    const list = document.createElement("ul");
    list.id = "suggestions";
    list.className = "suggestions";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Suggestions");
    list.hidden = true;
    input.form.append(list);
    for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-expanded", "false"], ["aria-controls", list.id]]) {
      input.setAttribute(name, value);
    }
    let current = -1, timer = 0, asked = null, typed = "";

    const close = () => {
      clearTimeout(timer);
      asked?.abort();
      list.hidden = true;
      current = -1;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    };
    const mark = (i) => {
      const options = list.children;
      options[current]?.setAttribute("aria-selected", "false");
      current = i;
      if (i < 0) {
        input.value = typed;
        input.removeAttribute("aria-activedescendant");
        return;
      }
      options[i].setAttribute("aria-selected", "true");
      options[i].scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", options[i].id);
      input.value = options[i].dataset.text;
    };
    const choose = (option) => {
      input.value = option.dataset.text;
      close();
      // A field with its colon needs a value; a repository has a page.
      if (option.dataset.text.endsWith(":")) {
        input.focus();
        typed = input.value;
        ask();
      } else if (option.dataset.page) {
        location.href = option.dataset.page;
      } else {
        input.form.requestSubmit();
      }
    };
    const show = (found) => {
      list.replaceChildren(...found.map((s, i) => {
        const option = document.createElement("li");
        option.id = "suggestion-" + i;
        option.setAttribute("role", "option");
        option.setAttribute("aria-selected", "false");
        option.dataset.text = s.text;
        if (s.name && s.name === s.text) option.dataset.page = "/r/" + s.name;
        option.textContent = s.name || s.text;
        option.addEventListener("mousedown", (e) => { e.preventDefault(); choose(option); });
        return option;
      }));
      current = -1;
      list.hidden = found.length === 0;
      input.setAttribute("aria-expanded", String(found.length > 0));
    };
    const ask = async () => {
      asked?.abort();
      const text = typed;
      if (text.trim() === "") return close();
      asked = new AbortController();
      try {
        const answer = await fetch("/api/v1/suggest?limit=8&q=" + encodeURIComponent(text), { signal: asked.signal });
        if (!answer.ok) return close();
        const found = (await answer.json()).suggestions;
        if (input.value === text && document.activeElement === input) show(found);
      } catch { /* aborted or offline: the search works without suggestions */ }
    };
    input.addEventListener("input", () => { typed = input.value; clearTimeout(timer); timer = setTimeout(ask, 120); });
    input.addEventListener("blur", close);
    input.addEventListener("keydown", (e) => {
      const n = list.children.length;
      if (e.key === "Escape" && !list.hidden) {
        e.preventDefault();
        mark(-1);
        close();
      } else if (list.hidden || n === 0) {
        return;
      } else if (e.key === "ArrowDown") {
        e.preventDefault();
        mark(current + 1 < n ? current + 1 : -1);
      } else if (e.key === "ArrowUp") {
        e.preventDefault();
        mark(current < 0 ? n - 1 : current - 1);
      } else if (e.key === "Enter" && current >= 0) {
        e.preventDefault();
        choose(list.children[current]);
      }
    });
  }
  if (search) suggestions(search);

  /* Copying. Pages over plain http have no clipboard API; there a selection is
     copied. If that fails too, the text stays selected for the reader to copy. */
  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) {
      try {
        await navigator.clipboard.writeText(text);
        return true;
      } catch { /* refused: use a selection */ }
    }
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "offscreen";
    area.setAttribute("readonly", "");
    document.body.append(area);
    area.select();
    let done = false;
    try { done = document.execCommand("copy"); } catch { /* no such command */ }
    area.remove();
    return done;
  }

  /* Commands for a registry at the address of this page. The server does not know that
     address, so the script fills it in and then shows the copy button. docker takes a
     host without dot and port for a name at Docker Hub. */
  const plain = location.protocol === "http:";
  const host = /[.:]/.test(location.host) || location.host === "localhost" ? location.host : location.host + (plain ? ":80" : ":443");
  for (const code of document.querySelectorAll("code[data-open]")) {
    const flag = code.querySelector(".plain"), button = code.nextElementSibling;
    if (flag && plain) flag.hidden = false;
    else flag?.remove();
    code.querySelector("var").replaceWith(host);
    button.dataset.copy = code.textContent;
    button.setAttribute("aria-label", "Copy " + code.textContent);
  }
  for (const note of document.querySelectorAll("p[data-open]")) note.remove();
  const loopback = /^(localhost$|127\.|\[::1\])/.test(location.hostname); // docker accepts it without TLS
  for (const note of document.querySelectorAll("p[data-plain]")) note.hidden = !plain || loopback;

  const told = document.createElement("div");
  told.className = "offscreen";
  told.setAttribute("role", "status");
  document.body.append(told);
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copy(button.dataset.copy);
      button.focus();
      button.classList.add(done ? "done" : "failed");
      told.textContent = done ? "Copied" : "Press Ctrl+C to copy";
      const beside = button.previousElementSibling;
      if (!done && beside) getSelection().selectAllChildren(beside);
      setTimeout(() => { button.classList.remove("done", "failed"); told.textContent = ""; }, 1500);
    });
  }

  /* Ages. The server writes the time itself, because a cache may serve the page later. */
  const units = [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const tell = (time) => {
    const seconds = (new Date(time.dateTime) - Date.now()) / 1000;
    const unit = units.find(([, n]) => Math.abs(seconds) >= n);
    const near = seconds > 5 ? "in less than a minute" : "just now";
    time.textContent = unit ? words.format(Math.trunc(seconds / unit[1]), unit[0]) : near;
  };
  const times = document.querySelectorAll("time[datetime]:not([data-exact])");
  const tellAll = () => times.forEach(tell);
  tellAll();
  setInterval(tellAll, 60000);

  /* News: while the page is in the foreground, it receives each new version of the
     catalogue and then requests itself again by its ETag, which is usually a 304. If it
     has changed, a notice says so, and nothing moves under the cursor. */
  const live = document.querySelector("[data-live]");
  const page = async (cache) => {
    const answer = await fetch(location.href, { cache });
    return answer.ok ? answer.text() : null;
  };
  const tellNews = () => {
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.setAttribute("role", "status");
    const again = document.createElement("a");
    again.href = location.href;
    again.textContent = "reload";
    notice.append("This page has changed: ", again);
    live.prepend(notice);
  };
  const watch = async () => {
    const shown = await page("force-cache");
    let source = null, version = "", over = false;
    const heard = async (e) => {
      if (version && e.data !== version) {
        const now = await page("no-cache").catch(() => null);
        if (now && now !== shown && !over) {
          over = true;
          source?.close();
          tellNews();
        }
      }
      version = e.data;
    };
    const turn = () => { // a browser has six connections for all its pages
      source?.close();
      source = null;
      if (document.hidden || over || !shown) return;
      source = new EventSource("/live");
      source.onmessage = heard;
    };
    document.addEventListener("visibilitychange", turn);
    turn();
  };
  if (live) watch().catch(() => {});

  /* Filters: a selection is submitted at once. Typed text filters the rows of this
     page; Enter submits it, for all rows. */
  for (const form of document.querySelectorAll("form[data-filter]")) {
    form.querySelector("select")?.addEventListener("change", () => form.requestSubmit());
    const rows = document.querySelectorAll("#" + form.dataset.filter + " tbody tr");
    form.querySelector("input")?.addEventListener("input", (e) => {
      const text = e.target.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(text);
    });
  }
})();
