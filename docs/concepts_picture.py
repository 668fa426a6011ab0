"""Draw docs/concepts.svg: a soft prompt, the pass that certifies it, its margins, and who proves it.

    python docs/concepts_picture.py

Owns: the picture. Must not know: the code.
"""

from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("concepts.svg")
INK, GREY, SOFT, GOOD, PAPER = "#1c2733", "#8a97a6", "#f3c677", "#4c956c", "#ffffff"
TOKENS = (("Call", 2.1), (" me", 3.4), (" Ish", 1.2), ("mael", 4.2), (".", 0.6), ("(end)", 2.6))
"""A text and made-up margins, logits."""
WIDTH, HEIGHT, CELL, GAP, LEFT, TOP = 900, 400, 62, 8, 40, 90
K = 4
ASKED = 0.5


def text(x: float, y: float, words: str, *, size: int = 14, colour: str = INK, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str = INK) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{fill}" stroke="{stroke}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    path = f"M{x1:g} {y1:g} L{x2:g} {y2:g}"
    return f'<path d="{path}" stroke="{GREY}" stroke-width="1.5" marker-end="url(#head)" fill="none"/>'


def place(n: int) -> float:
    return LEFT + n * (CELL + GAP)


def read() -> list[str]:
    """What the model reads: K vectors, then the text."""
    told = [text(LEFT, TOP - 46, "the frozen model reads K vectors that were optimised, then the text", anchor="start")]
    names = [f"v{k + 1}" for k in range(K)] + [word for word, _ in TOKENS[:-1]]
    for n, name in enumerate(names):
        told.append(box(place(n), TOP - 30, CELL, 30, SOFT if n < K else PAPER))
        told.append(text(place(n) + CELL / 2, TOP - 10, name))
    wide = place(len(names)) - GAP - LEFT
    told.append(box(LEFT, TOP + 26, wide, 44, "#e8edf2", GREY))
    told.append(text(LEFT + wide / 2, TOP + 54, "frozen language model"))
    told += [arrow(place(n) + CELL / 2, TOP, place(n) + CELL / 2, TOP + 24) for n in range(len(names))]
    return told


def said() -> list[str]:
    """What it finds likeliest at each place, and by how much."""
    told, base, scale = [], TOP + 250, 22
    for n, (word, margin) in enumerate(TOKENS):
        x = place(K - 1 + n)
        told += [arrow(x + CELL / 2, TOP + 72, x + CELL / 2, TOP + 94), box(x, TOP + 98, CELL, 30, "#e3f1e8", GOOD)]
        told.append(text(x + CELL / 2, TOP + 118, word))
        told.append(box(x + 14, base - scale * margin, CELL - 28, scale * margin, GOOD, GOOD))
        told.append(text(x + CELL / 2, base + 16, f"{margin:g}", size=12))
    left, right = place(K - 1) - 6, place(K - 1 + len(TOKENS))
    line = base - scale * ASKED
    told.append(f'<path d="M{left:g} {line:g} H{right:g}" stroke="{INK}" stroke-dasharray="4 3"/>')
    told.append(text(left - 8, line + 4, "margin asked for: 0.5", size=12, anchor="end"))
    told.append(text(left - 8, TOP + 118, "likeliest next token", size=12, anchor="end"))
    told.append(text(left - 8, base - 60, "its lead over the best rival, logits", size=12, anchor="end"))
    return told


def proved() -> list[str]:
    """The two ends of it."""
    x = place(K + len(TOKENS)) - 24
    told = [box(x, TOP + 88, 150, 52, PAPER, GREY), text(x + 75, TOP + 110, "all right, to the end:"),
            text(x + 75, TOP + 128, "the certificate"), arrow(x + 75, TOP + 142, x + 75, TOP + 186)]  # fmt: skip
    told.append(arrow(place(K + len(TOKENS) - 1) - 6, TOP + 113, x - 4, TOP + 113))
    told += [box(x, TOP + 190, 150, 52, "#e3f1e8", GOOD), text(x + 75, TOP + 212, "vLLM decodes freely:")]
    return [*told, text(x + 75, TOP + 230, "exact")]


def picture() -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/><defs>'
        '<marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        f'<path d="M0 0 L6 3 L0 6 z" fill="{GREY}"/></marker></defs>'
    )
    return "\n".join([head, *read(), *said(), *proved(), "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
