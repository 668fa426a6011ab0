// The table of trials, and one trial by itself.
"use strict";

(function (V) {
  const { el, by } = V;
  const state = (t) => el("span", { class: `badge ${t.state === "complete" ? "good" : t.state === "failed" ? "bad" : "quiet"}` }, t.state);
  const figure = (name, digits) => ({ of: (t) => (t.state === "complete" ? t[name] : null), number: true, show: (t) => (t.state === "complete" ? V.number(t[name], digits) : "") });
  const drawn = (t) => t.params.map(([key, value]) => `${key}=${typeof value === "number" ? +value.toPrecision(3) : value}`).join(" ");

  const COLUMNS = (data) => [
    { key: "number", title: "trial", number: true, of: (t) => t.number, show: (t) => el("a", { href: V.address(t.number) }, t.number) },
    { key: "state", title: "state", of: (t) => t.state, show: (t) => [state(t), t.is_base && " base", t.number === data.winner && " best"] },
    ...(data.measure === "missing" ? [{ key: "prefix_tokens", title: "prefix", ...figure("prefix_tokens", 1) }] : []),
    { key: "cost", title: "cost", ...figure("cost", 1) },
    { key: "exact_frac", title: "exact", wide: true, number: true, of: (t) => (t.state === "complete" ? t.exact_frac : null),
      show: (t) => (t.state === "complete" ? V.percent(t.exact_frac, 1) : "") },
    { key: "margin", title: "margin", wide: true, ...figure("margin") },
    { key: "texts", title: "texts", wide: true, number: true, of: (t) => t.costs.length, show: (t) => V.whole(t.costs.length) },
    { key: "params", title: "what was drawn", of: drawn, show: (t) => V.visible(drawn(t)) },
  ];

  V.drawnOf = drawn;

  V.chosenTrials = (data, trials, asked) => {
    const q = asked.q.toLowerCase();
    const found = trials.filter((t) => (!asked.state || t.state === asked.state) && (!q || t.haystack.includes(q)));
    const column = COLUMNS(data).find((c) => c.key === asked.sort);
    if (!column) return found;
    const sign = asked.down ? -1 : 1;
    return found.map((t) => [column.of(t), t]).sort(([a, s], [b, t]) =>
      (a === null) - (b === null) || (a < b ? -sign : a > b ? sign : s.number - t.number)).map(([, t]) => t);
  };

  V.drawTrials = (data, shown, asked, go) => {
    const kinds = (c) => [c.number && "n", c.wide && "wide", `c-${c.key}`].filter(Boolean).join(" ");
    const heading = (c) => {
      const isSorted = asked.sort === c.key;
      const down = isSorted ? !asked.down : false;
      const button = el("button", { type: "button", "data-sort": c.key, onclick: () => go({ sort: c.key, down }) },
        c.title + (isSorted ? (asked.down ? " ↓" : " ↑") : ""));
      return el("th", { scope: "col", class: kinds(c), "aria-sort": isSorted ? (asked.down ? "descending" : "ascending") : "none" }, button);
    };
    const columns = COLUMNS(data);
    const row = (t) => el("tr", { onclick: (event) => event.target.closest("a") || String(getSelection()) || (location.hash = V.address(t.number)) },
      columns.map((c) => el("td", { class: kinds(c) }, c.show(t))));
    by("table").replaceChildren(el("thead", {}, el("tr", {}, columns.map(heading))), el("tbody", {}, shown.map(row)));
  };

  function pairTable(pairs, unit, isLessBetter) {
    const row = ([id, tokens, a, b]) => {
      const kind = a === null || b === null || a === b ? "" : (b < a) === isLessBetter ? "good" : "bad";
      return el("tr", {}, el("td", {}, V.visible(id)), el("td", { class: "n" }, tokens || ""), el("td", { class: "n" }, V.number(a, 1)),
        el("td", { class: `n ${kind}` }, V.number(b, 1)));
    };
    const head = ["text", "tokens", `the base, ${unit}`, `this one, ${unit}`].map((say, k) => el("th", { class: k ? "n" : "" }, say));
    return el("table", { class: "pairs" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, pairs.map(row)));
  }

  V.pairsOf = (data, t) => data.texts.id.slice(0, t.costs.length).map((id, k) => [id, data.texts.tokens[k], data.base[k], t.costs[k]]);

  // One trial: what was drawn beside what it came to, each text's cost against the base's.
  V.drawTrial = (data, t, back) => {
    const pairs = V.pairsOf(data, t);
    const facts = [
      ["state", t.state], ["cost", t.cost === null ? "" : `${V.number(t.cost, 1)} passes a text`], ["exact", t.exact_frac === null ? "" : V.percent(t.exact_frac, 1)],
      ["margin", V.number(t.margin)], ["exact prefix", t.prefix_tokens === null ? "" : `${V.number(t.prefix_tokens, 1)} tokens`],
      ["texts that ended", `${V.whole(t.texts)} of ${V.whole(data.search.num_texts)}`], ["wall time", t.seconds === null ? "" : V.time(t.seconds)],
    ];
    const list = (rows) => el("dl", {}, rows.flatMap(([name, value]) => [el("dt", {}, V.visible(name)), el("dd", {}, V.visible(String(value)))]));
    const parts = [
      el("p", { class: "turn" }, el("a", { href: back, id: "back" }, "← all trials")),
      el("h2", { id: "title", tabindex: -1 }, `Trial ${t.number}`, t.is_base ? ", the base recipe" : t.number === data.winner ? ", the best" : ""),
      list(facts),
      el("h3", {}, "What was drawn"), list(t.params),
      el("h3", {}, "Its recipe as a file"), el("p", { class: "command" }, el("code", {}, V.visible(`${data.search.command} --export-trial ${t.number}`))),
      el("h3", {}, `Text by text, in ${data.unit}`), t.costs.length ? pairTable(pairs, data.unit, true) : el("p", { class: "note" }, "It met no text."),
      t.state === "stopped" && el("p", { class: "note" }, "It was stopped: of texts under way this is what they had cost by then."),
    ];
    by("one").replaceChildren(...parts.filter(Boolean));
  };
})(window.V);
