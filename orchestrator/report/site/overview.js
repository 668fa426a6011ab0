// The first page: tiles and pictures.
"use strict";

(function (V) {
  const { el } = V;
  const percent = (v) => `${v} %`;

  V.tiles = (data) => {
    const f = data.figures, run = data.run, other = data.against;
    const beside = (say) => el("small", {}, `${V.visible(other.run.name)}: ${say(other.figures, other.run)}`);
    const tile = (value, name, say, kind) =>
      el("div", { class: `tile ${kind || ""}` }, el("b", {}, value), el("span", {}, name), other && say && beside(say));
    const dash = (value, digits) => (value === null ? "–" : V.number(value, digits));
    const exact = (g) => `${V.whole(g.num_exact)} of ${V.whole(g.num_rows)}`;
    const isUnderWay = run.num_rows > f.num_rows;
    const rate = run.seconds ? `${V.short((60 * f.num_rows) / run.seconds)} texts a minute` : "time";
    return [
      tile(V.whole(f.num_rows), isUnderWay ? `texts so far, of ${V.whole(run.num_rows)}` : "texts", (g) => V.whole(g.num_rows)),
      tile(V.percent(f.num_exact, f.num_rows), `exact: ${exact(f)}`, exact, f.num_exact === f.num_rows ? "good" : "bad"),
      tile(V.visible(run.engine.split(" ")[0]), V.visible(`${run.engine}, ${run.engine_dtype}`),
        (g, r) => V.visible(`${r.engine}, ${r.engine_dtype}`)),
      tile(dash(f.mean_steps, f.mean_steps < 100 ? 1 : 0), "steps an exact text, mean", (g) => dash(g.mean_steps, 1)),
      tile(V.time(run.seconds), rate, (g, r) => V.time(r.seconds)),
      tile(dash(f.least_margin), `smallest margin, logits; median ${dash(f.median_margin)}`, (g) => dash(g.least_margin)),
    ];
  };

  const stepsOf = (t) => (t.num_vectors === null ? null : t.steps);

  function stepsAgainstTokens(texts) {
    const labels = { title: "steps against tokens", x: "tokens in the text", xUnit: "tokens", yUnit: "steps" };
    const length = (t) => (t.num_vectors === null ? null : t.length);
    return V.figure("Steps against tokens", V.dotNote(texts), (w) => V.scatter(w, texts, length, stepsOf, labels));
  }

  function stepsAgainstOther(data, texts) {
    const labels = {
      title: "steps here against steps there", x: `steps in ${V.visible(data.against.run.name)}`,
      xUnit: "steps there", yUnit: "steps here", diagonal: true,
    };
    const there = (t) => (t.there ? stepsOf(t.there) : null);
    const note = `below the line ${V.visible(data.run.name)} took fewer`;
    return V.figure("Steps here against steps there", note, (w) => V.scatter(w, texts, there, stepsOf, labels));
  }

  function margins(data) {
    const labels = { title: "histogram of margins", x: "smallest margin, logits" };
    const note = "the smallest of each text; the larger, the safer on other engines";
    return V.figure("Margins", note, (w) => V.histogram(w, data.figures.margins, data.run.stop_margin, labels));
  }

  function work(f) {
    const labels = { title: "share of work by the hardest texts", x: "the hardest texts", xSay: percent, ySay: percent };
    const last = f.work.length - 1, tenth = f.work[Math.round(last / 10)];
    const share = last < 10 ? "" : `; a tenth of the texts took ${V.percent(tenth, 1)} of them`;
    const note = `${V.short(f.num_positions)} positions${share}`;
    return V.figure("Work", note, (w) => V.curve(w, f.work, labels));
  }

  function engines(f) {
    const judged = f.engines.map(([engine, dtype, exact, of]) => [`${engine}, ${dtype}`, exact, of, null]);
    const rungs = (f.ladder || []).map(([name, exact, of]) => [name.replace(/_/g, " "), exact, of, null]);
    const note = rungs.length ? "as judged in the run, then by the further checks of --ladder" : "of the prompts that were judged";
    return V.figure("Exact, by engine and numerics", note, () => V.bars([...judged, ...rungs], "good"));
  }

  function failures(f, choose) {
    const rows = f.diagnoses.map(([name, count]) => [name, count, null, () => choose(name)]);
    if (!rows.length) return V.figure("What went wrong", "", () => el("p", { class: "note" }, "Nothing: every text is exact."));
    return V.figure("What went wrong", "texts that are not exact, by diagnosis", () => V.bars(rows, "bad"));
  }

  // The pictures, the lists among them stacked; `choose` is told a diagnosis that was clicked.
  V.charts = (data, texts, choose) => {
    const f = data.figures;
    const drawn = [
      stepsAgainstTokens(texts), data.against && stepsAgainstOther(data, texts), f.margins && margins(data),
      f.work.length > 0 && work(f),
    ].filter(Boolean);
    const lists = [
      f.engines.length > 0 && engines(f),
      (f.diagnoses.length > 0 || f.num_exact === f.num_rows) && failures(f, choose),
    ].filter(Boolean);
    return { parts: [...drawn, el("div", { class: "stack" }, lists)], figures: [...drawn, ...lists] };
  };
})(window.V);
