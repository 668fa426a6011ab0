// The pictures: inline SVG, drawn as wide as there is room.
"use strict";

(function (V) {
  const { el, svg } = V;
  const HEIGHT = 220, LEFT = 46, RIGHT = 20, TOP = 12, BOTTOM = 40;
  const MOST_DOTS = 1500;

  // Round numbers that cover [low, high], about `count` of them.
  function ticks(low, high, count) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-6; k++)
      found.push(+(k * step).toPrecision(12));
    return found;
  }

  const line = (kind, x1, y1, x2, y2) => svg("line", { class: kind, x1, y1, x2, y2 });
  const words = (kind, x, y, anchor, say) => svg("text", { class: kind, x, y, "text-anchor": anchor }, say);

  // Axes for x and y, both [low, high]; the drawing, and where a value comes to lie in it.
  function frame(width, x, y, labels) {
    const left = LEFT, right = width - RIGHT, bottom = HEIGHT - BOTTOM;
    const X = (v) => left + ((v - x[0]) / (x[1] - x[0] || 1)) * (right - left);
    const Y = (v) => bottom - ((v - y[0]) / (y[1] - y[0] || 1)) * (bottom - TOP);
    const root = svg("svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": labels.title,
    });
    for (const v of ticks(y[0], y[1], 4)) {
      if (labels.counts && !Number.isInteger(v)) continue;
      const say = labels.ySay ? labels.ySay(v) : V.short(v);
      root.append(line("grid", left, Y(v), right, Y(v)), words("tick", left - 6, Y(v) + 4, "end", say));
    }
    for (const v of ticks(x[0], x[1], Math.max(3, width / 90)))
      root.append(words("tick", X(v), bottom + 16, "middle", labels.xSay ? labels.xSay(v) : v));
    root.append(line("axis", left, bottom, right, bottom), words("label", right, HEIGHT - 6, "end", labels.x));
    return { root, X, Y, bottom };
  }

  // For pages of another kind, which draw into the same frame.
  V.parts = { frame, line, words, TOP };

  V.dotNote = (texts) => `a dot a text${texts.length > MOST_DOTS ? ", of some" : ""}; click to open it`;

  // A dot a text, those that are not exact on top. `across` and `up` give its numbers, or null.
  V.scatter = (width, texts, across, up, labels) => {
    const all = texts.filter((t) => across(t) !== null && up(t) !== null);
    const some = (kind) => kind.filter((t, k) => k % Math.ceil(kind.length / MOST_DOTS) === 0);
    const dots = [...some(all.filter((t) => t.exact)), ...some(all.filter((t) => !t.exact))];
    const x = [0, Math.max(1, ...dots.map(across))], y = [0, Math.max(1, ...dots.map(up))];
    const { root, X, Y } = frame(width, x, y, labels);
    if (labels.diagonal) {
      const end = Math.min(x[1], y[1]);
      root.append(line("mark", X(0), Y(0), X(end), Y(end)));
    }
    const r = dots.length > 1000 ? 2 : 3.5;
    for (const t of dots) {
      const say = `${V.visible(t.id)}: ${across(t)} ${labels.xUnit}, ${up(t)} ${labels.yUnit}`;
      const at = { cx: X(across(t)).toFixed(1), cy: Y(up(t)).toFixed(1), r };
      const dot = svg("circle", { class: t.exact ? "good" : "bad", ...at }, svg("title", {}, say));
      root.append(svg("a", { href: V.address(t.id), tabindex: -1 }, dot));
    }
    return root;
  };

  // Bars of the exact texts with the others on them, and a line where the run asked its margin to be.
  V.histogram = (width, bins, asked, labels) => {
    const size = (bins.high - bins.low) / bins.exact.length;
    const most = Math.max(1, ...bins.exact.map((n, k) => n + bins.other[k]));
    const { root, X, Y, bottom } = frame(width, [bins.low, bins.high], [0, most], { ...labels, counts: true });
    bins.exact.forEach((exact, k) => {
      const from = bins.low + k * size, other = bins.other[k];
      const isOpen = bins.beyond && k === bins.exact.length - 1;
      const range = isOpen ? `from ${V.number(from)} on` : `${V.number(from)} to ${V.number(from + size)}`;
      const say = `${range}: ${exact} exact${other ? `, ${other} not` : ""}`;
      for (const [kind, base, n] of [["good", 0, exact], ["bad", exact, other]]) {
        if (!n) continue;
        const wide = { x: X(from) + 0.5, width: Math.max(1, X(from + size) - X(from) - 1) };
        const high = { y: Y(base + n), height: Y(base) - Y(base + n) };
        root.append(svg("rect", { class: kind, ...wide, ...high }, svg("title", {}, say)));
      }
    });
    if (asked >= bins.low && asked <= bins.high)
      root.append(line("mark", X(asked), TOP, X(asked), bottom),
        words("tick halo", X(asked) - 6, TOP + 8, "end", `asked for: ${+asked.toFixed(3)}`));
    return root;
  };

  // Shares from 0 to 1 at even steps, against the line on which all would be alike.
  V.curve = (width, shares, labels) => {
    const { root, X, Y } = frame(width, [0, 100], [0, 100], labels);
    const last = shares.length - 1;
    const points = shares.map((share, k) => `${X((100 * k) / last).toFixed(1)},${Y(100 * share).toFixed(1)}`);
    root.append(line("mark", X(0), Y(0), X(100), Y(100)));
    root.append(svg("polyline", { class: "line", points: points.join(" ") }));
    return root;
  };

  // Horizontal bars: [name, part, whole or null, what a click does or null].
  V.bars = (rows, kind) => {
    const most = Math.max(1, ...rows.map(([, part, whole]) => whole || part));
    return el("div", { class: "bars" }, rows.map(([name, part, whole, act]) => {
      const width = `width:${((100 * part) / (whole || most)).toFixed(2)}%`;
      const label = act
        ? el("button", { type: "button", class: "name link", onclick: act }, V.visible(name))
        : el("span", { class: "name" }, V.visible(name));
      const track = el("span", { class: "track" }, el("span", { class: kind, style: width }));
      const say = whole ? `${V.whole(part)} of ${V.whole(whole)}` : V.whole(part);
      return el("div", { class: "bar" }, label, track, el("span", { class: "value" }, say));
    }));
  };

  // A panel that draws itself anew when it is told to, as wide as it has become.
  V.figure = (title, note, draw) => {
    const place = el("div", { class: "draw" });
    const caption = el("figcaption", {}, el("strong", {}, title), note && el("span", {}, note));
    const figure = el("figure", {}, caption, place);
    figure.draw = () => place.replaceChildren(draw(Math.max(260, Math.floor(place.clientWidth))));
    return figure;
  };
})(window.V);
