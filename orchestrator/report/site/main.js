// The page as a whole: data, addresses, what is shown, keys.
"use strict";

(function (V) {
  const { el, by } = V;
  const data = window.VERBATIM;
  const tokens = data.tokens;
  const texts = rowsOf(data.texts);
  const byId = new Map(texts.map((t) => [t.id, t]));
  const NO_STATE = { q: "", status: "", diagnosis: "", differs: "", sort: "", down: false, page: 0 };
  let state = { ...NO_STATE }, shown = texts;

  // Columns as rows; a column of few values comes as a list of them and a place in it for each row.
  function rowsOf(columns) {
    const names = Object.keys(columns);
    const of = (column, k) => (Array.isArray(column) ? column[k] : column.names[column.of[k]]);
    return columns.id.map((id, place) => {
      const t = { place };
      for (const name of names) t[name] = of(columns[name], place);
      t.exact = Boolean(t.exact);
      t.haystack = `${t.id}\n${t.text || ""}`.toLowerCase();
      return t;
    });
  }

  if (data.against) {
    const there = new Map(rowsOf(data.against.texts).map((t) => [t.id, t]));
    for (const t of texts) t.there = there.get(t.id) || null;
  }

  // ---- addresses: #id=... is a text, #q=...&status=... a choice of texts
  function home() {
    const told = Object.entries(state).filter(([name, value]) => value !== NO_STATE[name]);
    return "#" + new URLSearchParams(told.map(([name, value]) => [name, value === true ? 1 : value]));
  }

  function read() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const isText = asked.has("id");
    document.body.classList.toggle("embedded", asked.has("embed"));
    by("overview").hidden = isText;
    by("one").hidden = !isText;
    if (isText) return drawOne(asked.get("id"));
    if (location.hash !== "#texts") {
      state = { ...NO_STATE };
      for (const name of ["q", "status", "diagnosis", "differs", "sort"]) state[name] = asked.get(name) || "";
      state.down = asked.has("down");
      state.page = Number.parseInt(asked.get("page"), 10) || 0;
    }
    document.title = `${data.run.name} · Verbatim report`;
    redraw();
    drawChoice();
  }

  function go(change) {
    state = { ...state, ...change };
    try {
      history.replaceState(null, "", home());
    } catch { /* a browser that keeps no addresses of files */ }
    drawChoice();
  }

  // ---- one text, or the choice of texts
  function drawOne(id) {
    const t = byId.get(id);
    if (!t) {
      const back = el("p", {}, el("a", { href: home() }, "← all texts"));
      return by("one").replaceChildren(back, el("p", {}, `No text here has the id ${V.visible(id)}.`));
    }
    const place = shown.indexOf(t);
    const next = place < 0 ? null : shown[place + 1];
    V.drawText(t, data, tokens, { back: home(), previous: shown[place - 1], next });
    document.title = `${t.id} · ${data.run.name}`;
    scrollTo(0, 0);
    by("title").focus({ preventScroll: true });
  }

  function drawChoice() {
    shown = V.matching(texts, state);
    state.page = Math.max(0, Math.min(state.page, V.lastPage(shown.length)));
    if (by("search").value !== state.q) by("search").value = state.q;
    by("diagnosis").value = state.diagnosis;
    for (const chip of by("statuses").children)
      chip.setAttribute("aria-pressed", String(state[chip.dataset.kind] === chip.dataset.value));
    const all = V.whole(texts.length);
    const count = shown.length === texts.length ? `${all} texts` : `${V.whole(shown.length)} of ${all} texts`;
    const more = data.num_left_out ? `; ${V.whole(data.num_left_out)} more are in the figures alone` : "";
    by("count").textContent = count + more;
    V.drawTable(shown, state, Boolean(data.against), go);
  }

  function addFilters() {
    const turn = (kind, value) => go({ [kind]: state[kind] === value ? "" : value, page: 0 });
    const chip = (kind, value, name) => el("button",
      { type: "button", class: "chip", "data-kind": kind, "data-value": value, onclick: () => turn(kind, value) }, name);
    const { statuses, diagnoses } = data.figures;
    if (statuses.length > 1)
      by("statuses").append(...statuses.map(([name, count]) => chip("status", name, `${V.visible(name)} ${V.whole(count)}`)));
    if (data.against)
      by("statuses").append(chip("differs", "1", `exact in one run only ${V.whole(texts.filter(V.differs).length)}`));
    by("diagnosis").append(el("option", { value: "" }, "any diagnosis"));
    by("diagnosis").append(...diagnoses.map(([name]) => el("option", { value: name }, V.visible(name))));
    by("diagnosis").hidden = !diagnoses.length;
    by("diagnosis").addEventListener("change", (event) => go({ diagnosis: event.target.value, page: 0 }));
    by("search").addEventListener("input", (event) => go({ q: event.target.value, page: 0 }));
    by("filters").addEventListener("submit", (event) => event.preventDefault());
  }

  // ---- keys
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const keys = by("one").hidden
      ? { "/": () => by("search").focus(), j: () => V.walk(1), k: () => V.walk(-1) }
      : { Escape: "#back", ArrowLeft: "[rel=prev]", k: "[rel=prev]", ArrowRight: "[rel=next]", j: "[rel=next]" };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    if (typeof act === "function") act();
    else document.querySelector(`#one ${act}`)?.click();
  }

  // ---- put together
  const run = data.run;
  const when = run.state === "finished" ? run.updated.slice(0, 10) : run.state;
  const versions = run.versions.map((pair) => pair.join(" ")).join(", ");
  by("name").textContent = V.visible(run.name);
  by("about").textContent = V.visible([`${run.model} in ${run.solver_dtype}`, run.corpus, when].join(" · "));
  by("made").textContent = V.visible(`recipe ${run.recipe_hash} · weights ${run.fingerprint} · ${versions}`);
  by("tiles").append(...V.tiles(data));
  const { parts, figures } = V.charts(data, texts, (diagnosis) => {
    go({ diagnosis, status: "", page: 0 });
    by("texts").scrollIntoView();
  });
  by("charts").append(...parts);
  const redraw = () => figures.forEach((figure) => by("overview").hidden || figure.draw());
  addFilters();
  V.keepTheme(by("theme"));
  addEventListener("hashchange", read);
  addEventListener("keydown", onKey);
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 100);
  });
  // A run that goes on is served: what is shown stays in the address, and somebody who is typing is left alone.
  if (data.refresh_s)
    setInterval(() => document.activeElement === by("search") || location.reload(), 1000 * data.refresh_s);
  read();
  document.body.dataset.ready = "yes";
})(window.V);
