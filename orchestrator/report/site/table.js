// The table of texts: searched, filtered, sorted, a page at a time.
"use strict";

(function (V) {
  const { el, by } = V;
  const PAGE = 50;

  const whole = (name) => ({ key: name, number: true, of: (t) => t[name], show: (t) => V.whole(t[name]) });
  const COLUMNS = [
    { key: "id", title: "id", of: (t) => t.id, show: (t) => el("a", { href: V.address(t.id) }, V.visible(t.id)) },
    { key: "text", title: "text", of: (t) => t.text || "", show: (t) => V.visible(t.text === null ? "(null)" : t.text) },
    { key: "status", title: "status", of: (t) => t.status, show: (t) => V.badge(t) },
    { ...whole("length"), title: "tokens", wide: true, show: (t) => t.length || "" },
    { ...whole("num_vectors"), title: "vectors", wide: true },
    { ...whole("steps"), title: "steps" },
    { ...whole("attempts"), title: "attempts", wide: true },
    { ...whole("min_margin"), title: "margin", isBestLow: true, show: (t) => V.number(t.min_margin) },
    {
      key: "diagnosis", title: "diagnosis", wide: true,
      of: (t) => (t.exact ? "" : t.diagnosis || ""),
      show: (t) => (t.exact ? "" : V.visible(t.diagnosis || "")),
    },
  ];
  const THERE = {
    key: "there", title: "there", number: true, of: (t) => (t.there ? t.there.steps : null),
    show: (t) => (t.there ? `${t.there.exact ? "" : `${V.visible(t.there.status)}, `}${V.whole(t.there.steps)}` : ""),
  };

  V.badge = (t) => {
    const kind = t.exact ? "good" : t.status === "invalid" ? "quiet" : "bad";
    return el("span", { class: `badge ${kind}` }, t.exact ? "exact" : V.visible(t.status));
  };

  // Exact in one of two runs only.
  V.differs = (t) => Boolean(t.there) && t.there.exact !== t.exact;

  // The texts that a choice is of, in its order.
  V.matching = (texts, state) => {
    const asked = state.q.toLowerCase();
    const found = texts.filter((t) =>
      (!state.status || t.status === state.status) &&
      (!state.diagnosis || (!t.exact && t.diagnosis === state.diagnosis)) &&
      (!state.differs || V.differs(t)) &&
      (!asked || t.haystack.includes(asked)));
    const column = [...COLUMNS, THERE].find((c) => c.key === state.sort);
    if (!column) return found;
    const sign = state.down ? -1 : 1;
    const compare = ([a, s], [b, t]) =>
      // What has no value stands last, whichever way it goes.
      (a === null) - (b === null) || (a < b ? -sign : a > b ? sign : s.place - t.place);
    return found.map((t) => [column.of(t), t]).sort(compare).map(([, t]) => t);
  };

  const kinds = (c) => [c.number && "n", c.wide && "wide"].filter(Boolean).join(" ");

  function heading(column, state, go) {
    const isSorted = state.sort === column.key;
    const way = isSorted ? (state.down ? "descending" : "ascending") : "none";
    const down = isSorted ? !state.down : Boolean(column.number) && !column.isBestLow;
    const title = column.title + (isSorted ? (state.down ? " ↓" : " ↑") : "");
    const turn = () => go({ sort: column.key, down, page: 0 });
    const button = el("button", { type: "button", onclick: turn, "data-sort": column.key }, title);
    return el("th", { scope: "col", class: kinds(column), "aria-sort": way }, button);
  }

  function row(t, columns) {
    const open = (event) => {
      if (!event.target.closest("a") && !String(getSelection())) location.hash = V.address(t.id);
    };
    return el("tr", { onclick: open }, columns.map((c) => el("td", { class: `${kinds(c)} c-${c.key}` }, c.show(t))));
  }

  V.drawTable = (shown, state, hasOther, go) => {
    const columns = hasOther ? [...COLUMNS, THERE] : COLUMNS;
    const head = el("thead", {}, el("tr", {}, columns.map((c) => heading(c, state, go))));
    const page = shown.slice(state.page * PAGE, (state.page + 1) * PAGE);
    by("table").replaceChildren(head, el("tbody", {}, page.map((t) => row(t, columns))));
    drawPages(shown.length, state.page, go);
  };

  V.lastPage = (count) => Math.max(0, Math.ceil(count / PAGE) - 1);

  function drawPages(count, page, go) {
    const last = V.lastPage(count), from = page * PAGE;
    const turn = (name, to, isOn) => el("button", { type: "button", disabled: !isOn, onclick: () => go({ page: to }) }, name);
    const place = `${V.whole(from + 1)} to ${V.whole(Math.min(count, from + PAGE))} of ${V.whole(count)}`;
    by("pages").replaceChildren(...(last === 0 ? [] : [
      turn("first", 0, page > 0), turn("previous", page - 1, page > 0), el("span", {}, place),
      turn("next", page + 1, page < last), turn("last", last, page < last),
    ]));
  }
})(window.V);
