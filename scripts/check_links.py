"""Check that every link within a built site leads to a file, and to an anchor that is there.

    python scripts/check_links.py build/site

Prints those that do not, and ends with 1 if there are any.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what refers and what is referred to."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)
            elif name == "href" or (name == "src" and tag != "script"):
                self.links.append(value)


def broken(site: Path) -> Iterator[str]:
    """Yield a line for each link that leads nowhere."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts  # the theme's own
    }
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            where = f"{path.relative_to(site.resolve())}: {link}"
            if not target.is_file():
                yield f"{where}: there is no such file"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where}: the page has no such anchor"


def main() -> int:
    """Print what is broken."""
    found = list(broken(Path(sys.argv[1])))
    print("\n".join(found) or "Every link within the site leads somewhere.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
