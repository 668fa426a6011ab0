"""How Sphinx makes a site of the pages: `make docs`, or

    sphinx-build --fail-on-warning --keep-going -c docs/site . build/site

The pages stay what a forge shows: plain Markdown with relative links. What a site needs beyond that is made here, of
the pages themselves: the contents are the lists of links in docs/index.md and docs/decisions/README.md, a link to a
folder of code leads to the module that says what the folder owns, a link to a file of code to a copy of that file.
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
CONTENTS = ("docs/index", "docs/decisions/README")
"""Pages whose lists of links are the site's contents."""

project = "Verbatim"
author = "The Verbatim authors"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md", "docs/decisions/*.md", "engine/pocket/weights/README.md"]
myst_heading_anchors = 4
myst_links_external_new_tab = True
suppress_warnings = ["myst.header", "misc.highlighting_failure"]  # neither is about what a page says
highlight_language = "text"
html_theme = "furo"
html_title = "Verbatim"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_copyright = False
html_copy_source = False

LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
LIST = re.compile(r"^- .*$", flags=re.MULTILINE)


def setup(app: Sphinx) -> None:
    app.connect("source-read", at_home_on_a_site)
    app.connect("build-finished", front_door)


def at_home_on_a_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Links to folders lead somewhere, and lists of links become contents."""
    source[0] = LINK.sub(lambda link: _link(page, link), source[0])
    if page in CONTENTS:
        source[0] = "".join(_with_contents(page, part) for part in re.split(r"(?m)^(?=## )", source[0]))


def front_door(app: Sphinx, error: Exception | None) -> None:
    """`index.html` leads to the first page; the pages keep the addresses that they have in the repository."""
    there = "docs/index.html"
    door = f'<!doctype html><meta http-equiv="refresh" content="0; url={there}"><a href="{there}">Verbatim</a>\n'
    Path(app.outdir, "index.html").write_text(door, encoding="utf-8")


def _link(page: str, link: re.Match[str]) -> str:
    words, place = link[1], link[2].rstrip("/")
    there = (ROOT / page).parent / place
    if "://" in place or not there.is_dir():
        return link[0]
    return f"[{words}]({place}/__init__.py)" if (there / "__init__.py").exists() else words


def _with_contents(page: str, part: str) -> str:
    """A section of a page of contents, and after it the same pages for the site's own contents."""
    heading = re.match(r"## (.*)", part)
    pages = [place for line in LIST.findall(part) for _, place in LINK.findall(line) if place.endswith(".md")]
    if not pages:
        return part
    caption = f":caption: {heading[1]}\n" if heading else ""
    places = [os.path.relpath(((ROOT / page).parent / place).resolve(), (ROOT / page).parent) for place in pages]
    return part.rstrip() + f"\n\n```{{toctree}}\n:hidden:\n{caption}\n" + "\n".join(places) + "\n```\n\n"
