// Elements and numbers. Whatever comes from a run is put in as text, never as markup.
"use strict";
window.V = {};

(function (V) {
  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
    return node;
  }

  V.el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  V.svg = (tag, attributes, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  V.by = (id) => document.getElementById(id);

  V.whole = (value) => (value === null || value === undefined ? "" : Math.round(value).toLocaleString("en"));
  // Two decimals, or one digit where there would be none but zeros.
  V.number = (value, digits = 2) => {
    if (value === null || value === undefined) return "";
    return value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits ? value.toPrecision(1) : value.toFixed(digits);
  };
  V.short = (value) => {
    for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (value >= size) return (value / size).toPrecision(3) + " " + unit;
    return V.whole(value);
  };
  V.time = (seconds) => {
    if (seconds < 90) return `${Math.round(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
  };
  V.percent = (part, whole) => {
    const share = whole ? (100 * part) / whole : 0;
    if (share > 0 && share < 0.05) return "less than 0.1 %";
    return `${part < whole && share > 99.9 ? "99.9" : share < 10 || share % 1 === 0 ? +share.toFixed(1) : share.toFixed(1)} %`;
  };

  // Control characters and the marks that turn text around are named, so that an id or a text looks like what it is.
  V.visible = (text) =>
    text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
      (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

  // The next row's link, or the one before, gets the focus.
  V.walk = (step) => {
    const links = [...document.querySelectorAll("#table tbody a")];
    const place = links.indexOf(document.activeElement) + step;
    if (links.length) links[Math.max(0, Math.min(place, links.length - 1))].focus();
  };

  // Light and dark: as the system has it, until somebody presses the button; that is kept.
  V.keepTheme = (button) => {
    const root = document.documentElement;
    const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark";
    const set = (name) => {
      if (name === "light" || name === "dark") root.dataset.theme = name;
      button.textContent = isDark() ? "light" : "dark";
    };
    let kept = null;
    try {
      kept = localStorage.getItem("verbatim-theme");
    } catch { /* a browser that keeps nothing of files */ }
    set(kept);
    button.addEventListener("click", () => {
      const name = isDark() ? "light" : "dark";
      try {
        localStorage.setItem("verbatim-theme", name);
      } catch { /* not kept, then */ }
      set(name);
    });
  };

  V.address = (id) => "#id=" + encodeURIComponent(id);
})(window.V);
