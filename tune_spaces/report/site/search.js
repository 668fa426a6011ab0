// The page of a search as a whole: data, addresses, tiles, what is shown, keys.
"use strict";

(function (V) {
  const { el, by } = V;
  const data = window.VERBATIM, search = data.search, c = data.trials, h = data.held_out;
  data.unit = data.measure === "missing" ? "tokens missing" : "passes";
  const trials = c.number.map((number, k) => {
    const t = { number };
    for (const name of Object.keys(c)) t[name] = c[name][k];
    t.params = Object.entries(JSON.parse(t.params));
    t.haystack = `${number} ${V.drawnOf(t)}`.toLowerCase();
    return t;
  });
  const byNumber = new Map(trials.map((t) => [String(t.number), t]));
  const NONE = { q: "", state: "", sort: "", down: false };
  let asked = { ...NONE };

  // ---- tiles and pictures
  const winner = byNumber.get(String(data.winner)), base = trials.find((t) => t.is_base);
  const value = (t) => (data.measure === "missing" ? t.prefix_tokens : t.cost);
  const what = data.measure === "missing" ? "tokens of exact prefix" : "passes a text";

  function tiles() {
    const tile = (big, say, kind) => el("div", { class: `tile ${kind || ""}` }, el("b", {}, big), el("span", {}, say));
    const counts = data.counts.map(([name, n]) => `${V.whole(n)} ${name}`).join(", ");
    const rate = search.seconds ? `${V.short((3600 * trials.length) / search.seconds)} trials an hour` : "time";
    const ratio = h && h.ratio !== null ? `${h.ratio.toFixed(2)} ×` : "–";
    const times = h ? `the base's ${h.measure === "capacity" ? "prefix" : "cost"} on ${V.whole(h.num_texts)} other texts; 95 %: ${V.number(h.low)} to ${V.number(h.high)}` : "not met on other texts";
    return [
      tile(V.whole(trials.length), counts || "no trial has ended"),
      tile(winner ? V.number(value(winner), 1) : "–", winner ? `${what}, trial ${winner.number}, the best` : "no trial is complete"),
      tile(base ? V.number(value(base), 1) : "–", `${what}, the base recipe`),
      tile(ratio, times, h ? (data.beat ? "good" : "bad") : ""),
      tile(h ? `${V.whole(h.winner_exact)} : ${V.whole(h.base_exact)}` : "–", h ? `of ${V.whole(h.num_texts)} other texts exact, best : base` : "exact on other texts"),
      tile(search.seconds === null ? "–" : V.time(search.seconds), rate),
    ];
  }

  function charts() {
    const figures = [V.figure(data.measure === "missing" ? "Exact prefix, trial by trial" : "Cost, trial by trial", `complete ones, ${what}; the line is the best so far; click a dot`, (w) => V.way(w, data, trials, value))];
    if (winner && !winner.is_base && data.base.some((v) => v !== null))
      figures.push(V.figure("The best against the base, on the search's texts", "a dot a text; below the line the best took less. It was chosen for this",
        (w) => V.pairs(w, V.pairsOf(data, winner), data.unit, "the best")));
    if (h && h.id.length)
      figures.push(V.figure("The best against the base, on other texts", h.measure === "capacity" ? "a dot a text; above the line the best's exact prefix is longer" : "a dot a text; below the line the best took less. No trial saw these",
        (w) => V.pairs(w, h.id.map((id, k) => [id, h.tokens[k], h.base[k], h.winner[k]]), h.measure === "capacity" ? "tokens" : "passes", "the best")));
    if (trials.some((t) => t.state === "complete" && t.margin))
      figures.push(V.figure("Cost against margin", "complete trials; the upper left is best", (w) => V.costAndMargin(w, data, trials)));
    figures.push(V.figure("What explains the costs", `share of the ranks' variance on the texts that all met, where it is more than luck (${V.whole(data.explained.num_trials)} trials)`, () => V.explained(data.explained)));
    return figures;
  }

  // ---- addresses: #trial=7 is a trial, #q=...&state=... a choice of them
  const home = () => "#" + new URLSearchParams(Object.entries(asked).filter(([k, v]) => v !== NONE[k]).map(([k, v]) => [k, v === true ? 1 : v]));

  function go(change) {
    asked = { ...asked, ...change };
    try {
      history.replaceState(null, "", home());
    } catch { /* a browser that keeps no addresses of files */ }
    drawChoice();
  }

  function drawChoice() {
    const shown = V.chosenTrials(data, trials, asked);
    if (by("search").value !== asked.q) by("search").value = asked.q;
    for (const chip of by("statuses").children) chip.setAttribute("aria-pressed", String(asked.state === chip.dataset.value));
    by("count").textContent = shown.length === trials.length ? `${V.whole(trials.length)} trials` : `${V.whole(shown.length)} of ${V.whole(trials.length)} trials`;
    V.drawTrials(data, shown, asked, go);
  }

  function read() {
    const told = new URLSearchParams(location.hash.slice(1)), t = byNumber.get(told.get("trial"));
    by("overview").hidden = told.has("trial");
    by("one").hidden = !told.has("trial");
    document.title = `${t ? `trial ${t.number} · ` : ""}${V.visible(search.name)} · Verbatim search`;
    if (t) {
      V.drawTrial(data, t, home());
      scrollTo(0, 0);
      return by("title").focus({ preventScroll: true });
    }
    if (told.has("trial"))
      return by("one").replaceChildren(el("p", {}, el("a", { href: home(), id: "back" }, "← all trials")), el("p", {}, `No trial here is ${V.visible(told.get("trial"))}.`));
    if (location.hash !== "#trials") {
      asked = { ...NONE, down: told.has("down") };
      for (const name of ["q", "state", "sort"]) asked[name] = told.get(name) || "";
    }
    redraw();
    drawChoice();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.tagName === "INPUT") return void (event.key === "Escape" && event.target.blur());
    const keys = by("one").hidden
      ? { "/": () => by("search").focus(), j: () => V.walk(1), k: () => V.walk(-1) }
      : { Escape: () => document.querySelector("#back")?.click() };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  // ---- put together
  by("name").textContent = V.visible(search.name);
  const when = search.state === "finished" ? (search.updated || "").slice(0, 10) : search.state || "";
  by("about").textContent = V.visible([`${search.model} in ${search.dtype}`, `${search.num_texts} texts of ${search.corpus}, ${search.num_hold_out} held out`,
    `space ${search.space}, ${search.sampler}, ${search.stopping}`, `budget ${search.budget} passes`, when].filter(Boolean).join(" · "));
  const told = V.visible(data.headline);
  by("headline").textContent = `${told[0].toUpperCase()}${told.slice(1)}.`;
  by("headline").className = data.beat ? "good" : "";
  by("made").textContent = V.visible(`study ${search.study} · weights ${search.fingerprint} · verified by ${search.engine} in ${search.engine_dtype}`);
  by("recipe").textContent = data.recipe.trim() || "# the default recipe";
  by("tiles").append(...tiles());
  const figures = charts();
  by("charts").append(...figures);
  const redraw = () => figures.forEach((figure) => by("overview").hidden || figure.draw());
  if (data.counts.length > 1)
    by("statuses").append(...data.counts.map(([name, n]) => el("button",
      { type: "button", class: "chip", "data-value": name, onclick: () => go({ state: asked.state === name ? "" : name }) }, `${name} ${V.whole(n)}`)));
  by("search").addEventListener("input", (event) => go({ q: event.target.value }));
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  V.keepTheme(by("theme"));
  addEventListener("hashchange", read);
  addEventListener("keydown", onKey);
  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 100);
  });
  read();
  document.body.dataset.ready = "yes";
})(window.V);
