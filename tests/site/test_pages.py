"""Links of the site lead somewhere, pages can be reached and left, nothing is fetched."""

import functools
import html.parser
import os.path
import pathlib
import re
import urllib.parse

import pytest


class Page(html.parser.HTMLParser):
    """Links, sources and anchors of one page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.sources, self.anchors, self.rels = [], [], set(), {}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "link" and "href" in attrs:
            self.rels[attrs.get("rel")] = attrs["href"]
            if attrs.get("rel") not in ("canonical", "prev", "next"):
                self.sources.append(attrs["href"])
        self.sources += [attrs["src"]] if attrs.get("src") else []


@functools.cache
def read(path):
    return Page(path)


def pages(site):
    return sorted(path for path in site.rglob("*.html") if path.name != "404.html")


def target(site, page, link):
    """The file that a link of a page leads to, and its anchor; nothing if it leads elsewhere."""
    parts = urllib.parse.urlsplit(link)
    if parts.scheme or parts.netloc:
        return None, ""
    path = pathlib.Path(os.path.normpath(page.parent / urllib.parse.unquote(parts.path)))
    path = page if not parts.path else path
    assert path.is_relative_to(site), f"{page.relative_to(site)} leads out of the site: {link}"
    return path / "index.html" if path.is_dir() else path, urllib.parse.unquote(parts.fragment)


def test_the_build_warns_of_nothing(site):
    log = (site / "log").read_text()
    assert "Documentation built" in log
    assert "WARNING" not in log


def test_no_link_is_broken(site):
    followed = 0
    for page in pages(site):
        for link in [*read(page).links, *read(page).sources]:
            file, anchor = target(site, page, link)
            if file is None:
                continue
            followed += 1
            assert file.is_file(), f"{page.relative_to(site)}: {link}"
            if anchor and file.suffix == ".html" and not anchor.startswith("__"):
                assert anchor in read(file).anchors, f"{page.relative_to(site)}: {link}"
    assert followed > 3000


def test_every_page_is_reached_from_the_first_and_leads_back(site):
    home = site / "index.html"
    reached, waiting = set(), [home]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".html":
            continue
        reached.add(page)
        led = {target(site, page, link)[0] for link in read(page).links}
        assert home in led or page == home, f"no way back from {page.relative_to(site)}"
        waiting += led - {None}
    assert set(pages(site)) <= reached


def test_pages_are_in_one_order(site):
    """Each but the first has a previous one, each but the last a next one."""
    without = {rel: [p for p in pages(site) if rel not in read(p).rels] for rel in ("prev", "next")}
    assert [len(found) for found in without.values()] == [1, 1]
    assert without["prev"] == [site / "index.html"]


def test_nothing_is_fetched_from_elsewhere(site):
    for page in pages(site):
        for source in read(page).sources:
            assert not re.match(r"(?:https?:)?//", source), f"{page.relative_to(site)}: {source}"
        for style in re.findall(r"url\(([^)]*)\)|@import", page.read_text()):
            assert not re.match(r"[\"']?(?:https?:)?//", style), (
                f"{page.relative_to(site)}: {style}"
            )
    for sheet in [*site.rglob("*.css")]:
        for source in re.findall(r"url\([\"']?([^)\"']+)", sheet.read_text()):
            if not source.startswith("data:"):
                assert not re.match(r"(?:https?:)?//", source), f"{sheet.name}: {source}"
                assert (sheet.parent / source.split("#")[0].split("?")[0]).is_file(), source


def test_papers_are_links(site):
    for page in pages(site):
        text = re.sub(r"<pre.*?</pre>|<code.*?</code>", "", page.read_text(), flags=re.DOTALL)
        bare = re.findall(r"(?<![\">])https?://arxiv\.org/\S*", text)
        assert not bare, f"{page.relative_to(site)}: {bare}"


@pytest.mark.parametrize("part", ["funcopt/funcopt", "md-source__fact--version"])
def test_every_page_has_the_repository_and_the_version(site, part):
    from funcopt import __version__

    for page in pages(site):
        assert part in page.read_text()
    assert f">{__version__}</li>" in (site / "index.html").read_text()
