"""The directive `gallery`: a card for each page that it lists, with the page's first picture."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Gallery(SphinxDirective):
    """Cards of the pages that the content lists, a name a line, and a hidden toctree of them."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the toctree, and places for the cards."""
        folder = self.env.docname.rpartition("/")[0]
        pages = [f"{folder}/{name.strip()}" for name in self.content if name.strip()]
        tree = addnodes.toctree(
            parent=self.env.docname,
            entries=[(None, page) for page in pages],
            includefiles=pages,
            maxdepth=1,
            caption=None,
            glob=False,
            hidden=True,
            includehidden=False,
            numbered=0,
            titlesonly=True,
            rawentries=[],
        )
        cards = nodes.container(classes=["gallery"], pages=pages)
        return [nodes.compound("", tree, classes=["toctree-wrapper"]), cards]


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put title, picture and first sentence of each page into its card."""
    for cards in doctree.findall(nodes.container):
        for page in cards.get("pages", ()):
            inner = app.env.get_doctree(page)
            uri = app.builder.get_relative_uri(docname, page)
            title = app.env.titles[page].astext()
            card = nodes.container(classes=["gallery-card"])
            picture: Any = next(iter(inner.findall(nodes.image)), None)
            if picture is None:
                raise ValueError(f"{page}: a page of the gallery has a picture.")
            shown = picture.deepcopy()
            # Beside its own title: another name for it would only be read twice.
            shown["alt"] = ""
            card += shown
            line = nodes.paragraph(classes=["gallery-title"])
            line += nodes.reference("", title, refuri=uri, internal=True)
            card += line
            words = next(iter(inner.findall(nodes.paragraph)))
            card += words.deepcopy()
            cards += card


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("gallery", Gallery)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
