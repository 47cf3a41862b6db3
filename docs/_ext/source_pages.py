"""The repository's files as pages of the site, and links between them and the text.

A link to a file of the repository, as GitHub follows it, leads to its page here. Each numbered
equation of the derivation is a target, `equation-7`, and says which lines cite it; in the pages of
the code the citation leads back. `linkcode_resolve` sends the API reference to the same pages.
"""

from __future__ import annotations

import html
import inspect
import os
import pkgutil
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from citations import ROOT, TAG, cited_in_package
from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.console import bold  # type: ignore[attr-defined]
from sphinx.util.display import status_iterator

FOLDERS = ("gmm_np", "scripts", "tests")
IN_ROOT = ("LICENSE",)
CODE = {".py", ".c", ".js", ".sh"}
EQUATIONS = "derivation"  # the page that has them
DERIVATION = ROOT / "docs" / f"{EQUATIONS}.md"
# In a comment or a docstring, as Pygments marks them.
WORDS = re.compile(r'<span class="(?:c1|sd)">.*?</span>', re.S)
NUMBER = re.compile(r"(?<![\w)\]}])\((\d{1,3})\)")


def is_code(path: Path) -> bool:
    """Whether a file is shown with its lines; scripts for the shell have no suffix."""
    return path.suffix in CODE or not path.suffix


def page_of(path: Path) -> str | None:
    """Return the name of the page of a file or folder, or None if it has none."""
    if not path.is_relative_to(ROOT):
        return None
    relative = path.relative_to(ROOT)
    if relative.as_posix() in IN_ROOT:
        return f"source/{relative}"
    if not relative.parts or relative.parts[0] not in FOLDERS:
        return None
    if path.is_dir():
        return f"source/{relative.as_posix()}/index"
    return f"source/{relative.as_posix()}" if is_code(path) else None


def place_of(name: str) -> tuple[str, int] | None:
    """Return page and line of an object by its dotted name, or None if it has no lines there."""
    try:
        found = pkgutil.resolve_name(name)
        found = inspect.unwrap(found.fget if isinstance(found, property) else found)
        file = inspect.getsourcefile(found)
        _, first = inspect.getsourcelines(found)
    except (ValueError, ImportError, AttributeError, TypeError, OSError):
        return None  # a constant, an attribute, or nothing of that name
    page = page_of(Path(file).resolve()) if file else None
    return (page, max(first, 1)) if page else None


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Return where an object stands, relative to the page that is being read."""
    place = place_of(f"{info['module']}.{info['fullname']}") if domain == "py" else None
    if place is None:
        return None
    here = _app.env.current_document.docname
    return f"{_app.builder.get_relative_uri(here, place[0])}#L-{place[1]}"


def resolve(app: Sphinx, env: Any, node: Any, inner: nodes.Node) -> nodes.Node | None:
    """Find what a docstring names in short: a public name, lines of the code, or an argument."""
    if node.get("refdomain") != "py":
        return None
    target, here = node["reftarget"], node["refdoc"]
    objects = env.get_domain("py").objects
    public = objects.get(f"gmm_np.{target}")
    if public is not None:
        uri = app.builder.get_relative_uri(here, public.docname)
        return nodes.reference("", "", inner, refuri=f"{uri}#{public.node_id}", internal=True)
    place = place_of(target) if target.startswith("gmm_np.") else None
    if place is not None:
        uri = app.builder.get_relative_uri(here, place[0])
        return nodes.reference("", "", inner, refuri=f"{uri}#L-{place[1]}", internal=True)
    # A constant; an argument or an attribute that is called as something that can be imported.
    return inner if "." not in target or _exists(target) else None


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return name.startswith("gmm_np.")


_app: Any = None


class LinkToSources(SphinxTransform):
    """A link to a file of the repository becomes one to its page."""

    default_priority = 5  # before downloads are collected

    def apply(self, **_: Any) -> None:
        """Replace them all."""
        for kind in (addnodes.pending_xref, addnodes.download_reference):
            for node in list(self.document.findall(kind)):
                if node.get("reftype") == "myst" and node.get("refdomain") != "doc":
                    self._replace(node)

    def _replace(self, node: Any) -> None:
        # A text of the root that a page includes has its links from there.
        here = Path(self.env.doc2path(self.env.docname)).parent
        target = node["reftarget"].partition("#")[0]
        for base in (here, ROOT):
            path = Path(os.path.normpath(base / target))
            page = page_of(path) if path.exists() else None
            if page is not None:
                uri = self.env.app.builder.get_relative_uri(self.env.docname, page)
                node.replace_self(nodes.reference("", "", *node.children, refuri=uri))
                return


class EquationTargets(SphinxTransform):
    """Each numbered equation is a target, and says which lines of the code cite it."""

    default_priority = 800

    def apply(self, **_: Any) -> None:
        """Add them, where this is the derivation."""
        for block in list(self.document.findall(nodes.math_block)):
            text = block.astext()
            # As it is: Sphinx would wrap what has lines in an environment that forbids a tag.
            block.children = [nodes.Text(f"\\[{text}\\]")]
            block["no-wrap"] = block["nowrap"] = True
            tag = TAG.search(text)
            if tag is not None and self.env.docname == EQUATIONS:
                self._add(block, int(tag[1]))

    def _add(self, block: nodes.math_block, number: int) -> None:
        name = f"equation-{number}"
        block["ids"].append(name)
        self.env.get_domain("std").note_hyperlink_target(name, EQUATIONS, name, f"({number})")
        lines = CITATIONS.get(number)
        if not lines:
            return
        note = nodes.paragraph(classes=["cited-in"])
        note += nodes.Text("In the code: ")
        for i, (path, numbers) in enumerate(lines.items()):
            if i:
                note += nodes.Text("; ")
            note += nodes.literal("", path.removeprefix("gmm_np/"))
            for j, line in enumerate(numbers):
                page = page_of(ROOT / path)
                uri = self.env.app.builder.get_relative_uri(EQUATIONS, page or "")
                note += nodes.Text(", " if j else " ")
                note += nodes.reference("", str(line), refuri=f"{uri}#L-{line}")
        block.parent.insert(block.parent.index(block) + 1, note)


CITATIONS = cited_in_package()
TAGS = {int(n) for n in TAG.findall(DERIVATION.read_text(encoding="utf-8"))}


def with_links_back(body: str, derivation: str) -> str:
    """Return the HTML of a module, in which citations are links to the derivation at that URI."""

    def link(number: re.Match[str]) -> str:
        if int(number[1]) not in TAGS:
            return number[0]
        return f'<a href="{derivation}#equation-{number[1]}">{number[0]}</a>'

    return WORDS.sub(lambda words: NUMBER.sub(link, words[0]), body)


def files_of(folder: Path) -> list[Path]:
    """Return what a folder has that belongs to the project."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name != "__pycache__"
    )


def everything() -> list[Path]:
    """Return all files and folders that have a page, or are copied."""
    found = [ROOT / name for name in IN_ROOT]
    waiting = [ROOT / name for name in FOLDERS]
    while waiting:
        path = waiting.pop()
        found.append(path)
        if path.is_dir():
            waiting += files_of(path)
    return sorted(found)


def collect_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the page of each file and folder."""
    uri = app.builder.get_relative_uri
    paths = [(path, page) for path in everything() if (page := page_of(path)) is not None]
    shown = status_iterator(paths, bold("source pages... "), "brown", len(paths))
    for path, page in shown:
        name = path.relative_to(ROOT).as_posix()
        if path.is_dir():
            items = []
            for inner in files_of(path):
                target = page_of(inner)
                where = uri(page, target) if target else inner.name
                text = inner.name + "/" * inner.is_dir()
                items.append(f'<li><a href="{where}">{html.escape(text)}</a></li>')
            body = f'<ul class="files">{"".join(items)}</ul>'
        else:
            body = _highlighted(path)
            if path.is_relative_to(ROOT / "gmm_np"):
                body = with_links_back(body, uri(page, EQUATIONS))
        parents = [
            {"link": uri(page, page_of(up) or ""), "title": up.name}
            for up in reversed(path.parents)
            if up != ROOT and page_of(up)
        ]
        context = {
            "title": name,
            "parents": parents,
            "body": f"<h1><code>{html.escape(name)}</code></h1>{body}",
            "theme_secondary_sidebar_items": [],
        }
        yield page, context, "page.html"


def _highlighted(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    lexer = get_lexer_for_filename("script.sh" if not path.suffix else path.name, stripnl=False)
    if path.name in IN_ROOT:
        lexer = get_lexer_for_filename("text.txt")
    formatter: Any = HtmlFormatter(
        linenos="inline", linespans="L", anchorlinenos=True, wrapcode=True, cssclass="highlight"
    )
    # It scrolls sideways, so that the keyboard has to be able to go there.
    return highlight(text, lexer, formatter).replace("<pre>", '<pre tabindex="0">', 1)


def adjust(
    app: Sphinx,  # noqa: ARG001
    page: str,
    template: str,  # noqa: ARG001
    context: dict[str, Any],
    doctree: Any,  # noqa: ARG001
) -> None:
    """Leave the script of diagrams out of pages without them, and a role that has no children."""
    if "body" in context:
        lists = '<div role="list" class="citation-list">'
        context["body"] = context["body"].replace(lists, '<div class="citation-list">')
    if page.startswith("source/"):
        kept = [file for file in context["script_files"] if "mermaid" not in str(file)]
        context["script_files"] = kept


def copy_files(app: Sphinx, error: Exception | None) -> None:
    """Copy what has no page, such as the certified vectors, to where the folder's page links."""
    if error is not None or app.builder.format != "html":
        return
    for path in everything():
        if path.is_file() and page_of(path) is None:
            target = Path(app.outdir) / "source" / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect it all."""
    global _app
    _app = app
    app.add_transform(LinkToSources)
    app.add_transform(EquationTargets)
    app.connect("missing-reference", resolve)
    app.connect("html-collect-pages", collect_pages)
    app.connect("html-page-context", adjust, priority=900)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
