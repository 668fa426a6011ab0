// The page of one text: what was asked for, what was said, where it broke.
"use strict";

(function (V) {
  const { el } = V;
  const LEVELS = [0.125, 0.25, 0.5, 1, 2, 4, 8];

  // As `verbatim decode` draws them: a step up with every doubling.
  const level = (margin) => (margin > 0 ? `m${LEVELS.filter((l) => margin >= l).length}` : "lost");
  const shown = (text) => (text === "" ? "⟨end⟩" : V.visible(text).replace(/\n/g, "↵\n"));
  const word = (tokens, k) => shown((tokens.texts && tokens.texts[k]) ?? `⟨${tokens.ids[k]}⟩`);
  const note = (...say) => el("p", { class: "note" }, say);

  // Tokens one after the other, and a line below that says of the one that is pointed at what `fact` says.
  function strip(ids, tokens, { kind, fact, hint, start, length }) {
    const line = el("p", { class: "hover", "aria-live": "polite" }, hint || "\u00a0");
    const spans = ids.map((id, k) => {
      const told = fact(k, word(tokens, id));
      const tell = () => { line.textContent = told; };
      const attributes = { class: `token ${kind(k)}`, title: told, onmouseenter: tell, onclick: tell };
      return el("span", attributes, word(tokens, id));
    });
    const before = start > 0 && el("span", { class: "cut" }, `… ${start} tokens … `);
    const missing = length - start - ids.length;
    const after = missing > 0 && el("span", { class: "cut" }, ` … ${missing} more tokens`);
    return [el("p", { class: "strip" }, before, spans, after), line];
  }

  function targetStrip(t, tokens) {
    const broke = t.exact || t.first_mismatch === null ? Infinity : t.first_mismatch - t.start;
    const kind = (k) => `${t.margins ? level(t.margins[k] / 100) : ""} ${k === broke ? "broke" : k > broke ? "after" : ""}`;
    const fact = (k, text) => {
      const place = `token ${t.start + k} “${text}”`;
      if (!t.margins) return place;
      const margin = `margin ${(t.margins[k] / 100).toFixed(2)} over “${word(tokens, t.rivals[k])}”`;
      const chance = `probability ${(100 * Math.exp(-t.nats[k] / 1000)).toPrecision(3)} %`;
      return [place, margin, chance, `surprisal ${(t.nats[k] / 1000 / Math.LN2).toFixed(2)} bits`].join(", ");
    };
    const hint = t.margins ? "Measured in float32 for this page; point at a token for its margin, its rival and its probability." : "";
    return strip(t.target, tokens, { kind, fact, hint, start: t.start, length: t.length });
  }

  function saidStrip(t, tokens) {
    const isRight = (k) => t.said[k] === t.target[k];
    const kind = (k) => (t.start + k === t.first_mismatch ? "broke" : isRight(k) ? "right" : "wrong");
    const fact = (k, text) => {
      const should = k < t.target.length ? `should be “${word(tokens, t.target[k])}”` : "should have ended";
      return `token ${t.start + k} “${text}”, ${isRight(k) ? "right" : should}`;
    };
    return strip(t.said, tokens, { kind, fact, start: t.start, length: t.start + t.said.length });
  }

  function legend() {
    const names = ["above 0", ...LEVELS.map(String)];
    const levels = names.map((name, k) => [el("span", { class: `token m${k}` }, name), " "]);
    return el("p", { class: "legend" }, "margin in logits: ", el("span", { class: "token lost" }, "not above 0"), " ", levels);
  }

  // For a POSIX shell. An id with control characters is not offered: a terminal may act on what is pasted.
  const quoted = (id) => (/^[\w@%+=:,./-]+$/.test(id) ? id : `'${id.replace(/'/g, "'\\''")}'`);
  V.command = (run, id) => (/[\u0000-\u001f\u007f-\u009f]/.test(id) ? null : `${run.command} ${quoted(id)}`);

  function commandLine(run, t) {
    const command = V.command(run, t.id);
    if (command === null) return note("Its id has control characters; give it to `verbatim decode --id` from a program.");
    const copied = () => { copy.textContent = "copied"; };
    const put = () => navigator.clipboard.writeText(command).then(copied, () => {});
    const copy = el("button", { type: "button", onclick: put }, "copy");
    return el("div", { class: "command" }, el("code", {}, command), copy);
  }

  function work(t) {
    const attempts = `${t.attempts} ${t.attempts === 1 ? "attempt" : "attempts"}`;
    const seconds = `${V.number(t.seconds, 1)} s in the table`;
    return `${V.whole(t.steps)} steps, ${V.whole(t.positions)} positions, ${attempts}, ${seconds}`;
  }

  // What the row holds, in words; nothing of what it does not hold.
  function facts(t, run) {
    const when = (value, say) => (value === null ? null : say(value));
    const failed = (value) => (t.exact ? null : value);
    const rows = [
      ["status", t.exact ? "verified: exact" : [t.status, t.reason].filter(Boolean).join(": ")],
      ["judged by", when(t.engine, (engine) => `${engine} (${t.engine_dtype})`)],
      ["proof", t.proof],
      ["diagnosis", failed(t.diagnosis)],
      ["first wrong token", when(failed(t.first_mismatch), (place) => `${place} of ${t.length}`)],
      ["right tokens", when(t.token_accuracy, (share) => V.percent(share, 1))],
      ["smallest margin", when(t.min_margin, (m) => `${V.number(m, 3)} logits, measured by the solver in ${run.solver_dtype}`)],
      ["on the verifying engine", when(t.engine_margin, (m) => `${V.number(m, 3)} logits is the smallest, the true text being read`)],
      ["log-probability", when(t.log_prob, (nats) =>
        `${V.number(nats)} nats: plain sampling says it ${V.percent(Math.exp(nats), 1)} of the time`)],
      ["lead over other texts", when(t.beam_slack, (nats) => `${V.number(nats)} nats`)],
      ["soft prompt", when(t.num_vectors, (k) => `${k} vectors for ${t.length} tokens`)],
      ["work", when(t.num_vectors, () => work(t))],
      ["spelling", t.spelling === "plain" ? null : t.spelling],
      ["row", t.row],
    ];
    const told = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
    return el("dl", {}, told.map(([name, value]) => [el("dt", {}, name), el("dd", {}, V.visible(String(value)))]));
  }

  function nearest(t, tokens) {
    const near = (id, likeness) => el("td", {},
      el("span", { class: "token" }, word(tokens, id)), " ", el("small", {}, (likeness / 100).toFixed(2)));
    const rows = t.near.map((ids, k) =>
      el("tr", {}, el("th", { scope: "row" }, k), ids.map((id, j) => near(id, t.alike[k][j]))));
    return el("details", {}, el("summary", {}, "The prompt's vectors, by their nearest tokens"),
      note("The tokens whose embeddings point most nearly the same way, with the cosine. ",
        "Vectors that work need not be near any word."),
      el("table", { class: "near" }, el("tbody", {}, rows)));
  }

  function turning(links) {
    const to = (t, rel, name) => t && el("a", { href: V.address(t.id), rel }, name);
    return el("nav", { class: "turn", "aria-label": "texts" },
      el("a", { href: links.back, id: "back" }, "← all texts"),
      el("span", {}, to(links.previous, "prev", "previous"), " ", to(links.next, "next", "next")));
  }

  function tokensOf(t, tokens) {
    if (!t.target) return [];
    const below = t.margins ? legend() : note("A run keeps the smallest margin of a text, not every token's. ",
      el("code", {}, "verbatim report … --margins"), " loads the model and measures them.");
    return [el("h3", {}, t.margins ? "Its tokens, coloured by margin" : "Its tokens"), targetStrip(t, tokens), below];
  }

  // The way of an attempt: at each step kept, the margins of its tokens, in eighths of a logit.
  function wayOf(t, tokens) {
    if (!t.history || !t.target) return [];
    const { steps, margins } = t.history;
    const bytes = Int8Array.from(atob(margins), (c) => c.charCodeAt(0));
    const wide = bytes.length / steps.length;
    const [line] = strip(t.target.slice(0, wide), tokens,
      { kind: () => "", fact: (k, text) => `token ${t.start + k} “${text}”`, start: t.start, length: t.length });
    const spans = [...line.querySelectorAll(".token")];
    const said = el("output", { for: "step", "aria-live": "polite" });
    const show = (n) => {
      const frame = [...bytes.subarray(n * wide, (n + 1) * wide)].map((eighths) => eighths / 8);
      frame.forEach((margin, k) => {
        spans[k].className = `token ${level(margin)}`;
        spans[k].title = `token ${t.start + k}, margin ${margin.toFixed(2)}`;
      });
      const right = frame.filter((margin) => margin > 0).length;
      said.textContent = `step ${steps[n]}: ${right} of ${wide} tokens right, smallest margin ${Math.min(...frame).toFixed(2)}`;
    };
    const slider = el("input", { type: "range", id: "step", min: 0, max: steps.length - 1, value: steps.length - 1,
      "aria-label": "step of the attempt", oninput: (event) => show(Number(event.target.value)) });
    show(steps.length - 1);
    return [el("h3", {}, "How it got there"), line, el("p", { class: "way" }, slider, said),
      note("Each token under the true ones before it, in the last attempt; margins beyond 15.88 are shown as 15.88.")];
  }

  function saidOf(t, tokens) {
    if (t.exact || t.num_vectors === null) return [];
    if (!t.said) return note("No engine judged it, so what it says is not kept; the command below shows it.");
    const said = t.said.length ? saidStrip(t, tokens) : note("Nothing: the prompt was not decoded.");
    return [el("h3", {}, "What was said"), said];
  }

  V.drawText = (t, data, tokens, links) => {
    const isCut = t.text !== null && t.text.length >= data.most_characters;
    V.by("one").replaceChildren(...[
      turning(links),
      el("h2", { tabindex: -1, id: "title" }, V.visible(t.id), " ", V.badge(t)),
      el("h3", {}, "The text"),
      el("blockquote", {}, t.text === null ? "(null)" : V.visible(t.text), isCut && el("span", { class: "cut" }, " …")),
      tokensOf(t, tokens),
      saidOf(t, tokens),
      wayOf(t, tokens),
      t.num_vectors !== null && [el("h3", {}, "See it said"), commandLine(data.run, t)],
      el("h3", {}, t.there ? `In ${V.visible(data.run.name)}` : "Facts"),
      facts(t, data.run),
      t.there && [el("h3", {}, `In ${V.visible(data.against.run.name)}`), facts(t.there, data.against.run)],
      t.near && nearest(t, tokens),
    ].flat(Infinity).filter(Boolean));
  };
})(window.V);
