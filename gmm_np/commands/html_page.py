"""One HTML file that needs nothing beside it: elements, tables, pictures, and the page's look."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VOID: Final = ("img", "meta")  # elements that have no end
_LEAST, _MOST = 4.3, 5.5  # rem of the page an inch of a picture: text of 7 to 9 points
# Nothing is loaded and nothing runs, whatever a cell of the table says.
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1e21; --dim: #565b63; --paper: #ffffff;
  --soft: #f1f3f5; --line: #d0d4d9; --link: #0b5cad; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e9; --dim: #a8adb5; --paper: #16181b; --soft: #22252a; --line: #3c4148;
    --link: #7ab8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1.25rem 3rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 0.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 0.5rem; border-bottom: 1px solid var(--line); }
p, li, dd, caption { overflow-wrap: anywhere; }
p, caption, figcaption { max-width: 46rem; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; list-style: none; padding: 0; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
caption { text-align: left; color: var(--dim); padding-bottom: 0.4rem; }
caption span { display: block; max-width: calc(100vw - 2.5rem); }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: right; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; }
thead th { vertical-align: bottom; }
thead th, th.text, td.text { white-space: normal; max-width: 15rem; }
thead th { max-width: 9rem; }
th.text, td.text { text-align: left; }
td.note { text-align: left; white-space: normal; min-width: 14rem; }
tr.chosen > * { background: var(--soft); }
.swatch { display: inline-block; width: 0.75em; height: 0.75em; margin-right: 0.4em;
  border: 1px solid var(--line); }
.warning { border-left: 4px solid #d55e00; padding: 0.4rem 0.9rem; background: var(--soft); }
figure { margin: 1.5rem 0; }
figure .wide { margin: 0 0 0.4rem; border: 1px solid var(--line); border-radius: 6px;
  background: #ffffff; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: var(--dim); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.3rem 1.2rem; }
dt { font-weight: 600; }
dd { margin: 0; min-width: 0; }
code { font-family: ui-monospace, monospace; font-size: 0.92em; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.5rem; } }
@page { margin: 16mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  h2, caption, thead { break-after: avoid; }
  .swatch, tr.chosen > * { print-color-adjust: exact; }
  figure, tr { break-inside: avoid; }
  .wide { overflow: visible; }
  td, th { white-space: normal; padding-right: 0.5rem; }
  figure img { min-width: 0 !important; max-height: 22cm; object-fit: contain;
    object-position: left; }
  figure.small img { max-height: 10cm; } }
"""


class Html(str):
    """A text that is HTML already: every other one is escaped where it enters an element."""

    __slots__ = ()


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """Return an element; `class_` is the attribute class, and None leaves one out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_shown(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{said}>")
    return Html(f"<{name}{said}>{join(content)}</{name}>")


def join(content: Iterable[object]) -> Html:
    """Return pieces one after the other, escaped unless they are HTML."""
    return Html(
        "".join(c if isinstance(c, Html) else escape(_shown(c), quote=False) for c in content)
    )


def _shown(value: object) -> str:
    """Return a text without the characters that HTML does not admit."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)


def table(
    caption: object,
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    text: Sequence[int] = (0,),
    note: int | None = None,
    chosen: Sequence[int] = (),
) -> Html:
    """Return a table of rows, whose first cell names the row.

    The columns `text` stand to the left, that of `note` may have many words, and the rows `chosen`
    stand out.
    """

    def look(column: int) -> str | None:
        return "note" if column == note else "text" if column in text else None

    body = []
    for index, (first, *cells) in enumerate(rows):
        found = [tag("th", first, scope="row", class_=look(0))]
        found += [tag("td", cell, class_=look(j)) for j, cell in enumerate(cells, start=1)]
        body.append(tag("tr", *found, class_="chosen" if index in chosen else None))
    titles = [
        tag("th", title, scope="col", class_="text" if look(j) else None)
        for j, title in enumerate(head)
    ]
    whole = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", *titles)),
        tag("tbody", *body),
    )
    return _scrolled(whole)


def _scrolled(content: Html) -> Html:
    """Return what may be wider than the page, and is then moved by hand or by the arrow keys."""
    return tag("div", content, class_="wide", tabindex=0)


def picture(figure: Figure, alt: str, caption: str) -> Html:
    """Return a figure as SVG within the page."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "gmm-np"}):  # the same picture has the same bytes
        figure.savefig(stream, format="svg", metadata={"Date": None})
    source = "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
    width = float(figure.get_figwidth())  # inches; the page gives one as many rem as can be read
    image = tag("img", src=source, alt=alt, style=f"min-width: {_LEAST * width:.1f}rem")
    figcaption = tag("figcaption", caption)
    return tag(
        "figure",
        _scrolled(image),
        figcaption,
        class_="small" if width < 9 else None,
        style=f"max-width: {_MOST * width:.1f}rem",
    )


def page(title: str, lead: Html, sections: Sequence[tuple[str, str, Html]], generator: str) -> str:
    """Return the whole page; a section is its id, its title and what is in it."""
    meta = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="generator", content=generator),
    ]
    head = tag("head", *meta, tag("title", title), tag("style", Html(_STYLE)))
    links = [tag("li", tag("a", name, href=f"#{id_}")) for id_, name, _ in sections]
    body = [
        tag("section", tag("h2", name, id=id_), content, aria_labelledby=id_)
        for id_, name, content in sections
    ]
    contents = tag("nav", tag("ul", *links), aria_label="Contents")
    top = tag("header", tag("h1", title), lead, contents)
    whole = tag("html", head, tag("body", top, tag("main", *body)), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"
