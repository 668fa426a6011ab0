// The pictures of a search: its way, two recipes text by text, cost against margin, what explains the costs.
"use strict";

(function (V) {
  const { el, svg } = V;
  const { frame, line, words } = V.parts;

  V.address = (number) => "#trial=" + encodeURIComponent(number);

  const dot = (kind, x, y, r, say) => svg("circle", { class: kind, cx: x.toFixed(1), cy: y.toFixed(1), r }, svg("title", {}, say));
  const link = (number, child) => svg("a", { href: V.address(number), tabindex: -1 }, child);

  // The most that is drawn: a few recipes that never came to an end would flatten the others.
  const reach = (values, base) => {
    const sorted = [...values].sort((a, b) => a - b);
    return Math.max(1, base || 0, sorted[Math.floor(0.9 * (sorted.length - 1))] || 0) * 1.15;
  };

  // Complete trials in their order, with the best so far and the base as lines.
  V.way = (width, data, trials, value) => {
    const complete = trials.filter((t) => t.state === "complete" && value(t) !== null);
    const base = complete.find((t) => t.is_base);
    const top = reach(complete.map(value), base ? value(base) : 0);
    const x = [0, Math.max(1, ...trials.map((t) => t.number))];
    const { root, X, Y } = frame(width, x, [0, top], { title: "trials in their order", x: "trial" });
    const isBetter = (a, b) => (data.measure === "missing" ? a > b : a < b);
    let best = null, points = [];
    for (const t of complete) {
      if (best === null || isBetter(value(t), best)) {
        if (best !== null) points.push([t.number, best]);
        best = value(t);
        points.push([t.number, best]);
      }
    }
    if (best !== null) points.push([x[1], best]);
    root.append(svg("polyline", { class: "line", points: points.map(([n, v]) => `${X(n).toFixed(1)},${Y(Math.min(v, top)).toFixed(1)}`).join(" ") }));
    if (base)
      root.append(line("base", X(0), Y(value(base)), X(x[1]), Y(value(base))), words("tick halo", X(x[1]), Y(value(base)) - 6, "end", "the base"));
    for (const t of complete) {
      const kind = t.number === data.winner || t.is_base ? "good" : "quiet";
      const say = `trial ${t.number}: ${V.number(value(t), 1)}${value(t) > top ? ", beyond the picture" : ""}`;
      root.append(link(t.number, dot(kind, X(t.number), Y(Math.min(value(t), top)), kind === "good" ? 5 : 3.5, say)));
    }
    return root;
  };

  // Two recipes on the same texts: [id, tokens, base, other]; the line is where they cost the same.
  V.pairs = (width, pairs, unit, other) => {
    const known = pairs.filter(([, , a, b]) => a !== null && b !== null);
    const most = Math.max(1, ...known.flatMap(([, , a, b]) => [a, b]));
    const labels = { title: `${other} against the base, text by text`, x: `the base, ${unit}` };
    const { root, X, Y } = frame(width, [0, most], [0, most], labels);
    root.append(line("mark", X(0), Y(0), X(most), Y(most)));
    for (const [id, tokens, a, b] of known) {
      const say = `${V.visible(id)}: ${V.number(b, 1)} against ${V.number(a, 1)} ${unit}${tokens ? `, ${tokens} tokens` : ""}`;
      root.append(dot(b < a ? "good" : b > a ? "bad" : "quiet", X(a), Y(b), 4.5, say));
    }
    return root;
  };

  V.costAndMargin = (width, data, trials) => {
    const complete = trials.filter((t) => t.state === "complete" && t.cost !== null && t.margin !== null);
    const top = Math.max(0.1, ...complete.map((t) => t.margin)) * 1.1;
    const right = reach(complete.map((t) => t.cost), 0);
    const { root, X, Y } = frame(width, [0, right], [0, top], { title: "cost against margin", x: "passes a text", ySay: (v) => V.number(v, 1) });
    for (const t of complete) {
      const kind = t.number === data.winner || t.is_base ? "good" : "quiet";
      const say = `trial ${t.number}: ${V.number(t.cost, 1)} passes, margin ${V.number(t.margin)}`;
      root.append(link(t.number, dot(kind, X(Math.min(t.cost, right)), Y(t.margin), kind === "good" ? 5 : 3.5, say)));
    }
    return root;
  };

  // Parameters that explain costs beyond luck; where none does, that is said.
  V.explained = (found) => {
    if (!found.named.length) {
      const why = found.num_tested
        ? `None of ${found.num_tested} parameters: the costs of ${found.num_trials} trials differ by no one of them more than luck would have it.`
        : `Nothing can be said: no parameter was drawn in 20 of these ${found.num_trials} trials.`;
      return el("p", { class: "note" }, why);
    }
    const rows = found.named.map(([name, share, best, count]) => el("div", { class: "bar" },
      el("span", { class: "name" }, V.visible(name)),
      el("span", { class: "track" }, el("span", { class: "good", style: `width:${(100 * share).toFixed(1)}%` })),
      el("span", { class: "value", title: `${count} trials` }, `best: ${V.visible(best)}`)));
    return el("div", { class: "bars" }, rows);
  };
})(window.V);
