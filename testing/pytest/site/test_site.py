"""The documentation's site (`make docs-site`) in a browser. Screenshots of all pages are in target/site-screenshots."""

import functools
import http.server
import shutil
import threading

import pytest
from browser import browser
from conftest import PROJECT

SITE = PROJECT / "target/site"
SCREENSHOTS = PROJECT / "target/site-screenshots"
# Of a desktop computer and of a phone.
WIDTHS = (1280, 390)
# The table of contents, which other pages show in a frame if scripts are off.
FRAME = "toc.html"
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if path.name != FRAME)
# What has to be scrolled to the side to be read. Code, tables and diagrams may; the page, its text and what is around them may not: mdBook
# hides what the body has too much, and lets the text scroll.
TOO_WIDE = """
[...document.querySelectorAll('html, body, .page-wrapper, .page, .content, main, main > *')]
    .filter(element => !element.matches('pre, .table-wrapper, .diagram') && element.scrollWidth > Math.min(element.clientWidth || Infinity, innerWidth))
    .map(element => `${element.tagName} ${element.className} ${element.textContent.slice(0, 40)}: ${element.scrollWidth} > ${element.clientWidth}`)
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    assert (SITE / "index.html").exists(), "there is no site; run make docs-site"
    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    with browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


def complaints(events):
    """Errors and warnings of the console, exceptions, and failed requests."""
    for event in events:
        match event.get("method"), event.get("params"):
            case "Runtime.consoleAPICalled", {"type": "error" | "warning" | "assert"} as params:
                yield params["args"]
            case "Runtime.exceptionThrown", params:
                yield params["exceptionDetails"]
            case "Log.entryAdded", {"entry": {"level": "error" | "warning"} as entry}:
                yield entry
            case "Network.loadingFailed", params:
                yield params


def requests(events):
    return [event["params"]["request"]["url"] for event in events if event.get("method") == "Network.requestWillBeSent"]


def test_the_pages_are_those_of_the_documentation():
    sources = [path for path in (PROJECT / "docs").rglob("*.md") if path.name not in {"SUMMARY.md", "README.md"}]
    expected = {str(path.relative_to(PROJECT / "docs").with_suffix(".html")) for path in sources}
    # What a server shows for an unknown address is mdBook's own.
    assert set(PAGES) == expected | {"index.html", "404.html"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_without_complaints_and_fits(page, address, name):
    for width in WIDTHS:
        page.resize(width)
        events = page.open(f"{address}/{name}")
        assert list(complaints(events)) == []
        asked = requests(events)
        assert f"{address}/{name}" in asked
        assert [url for url in asked if not url.startswith((address, "data:"))] == []
        page.screenshot(SCREENSHOTS / f"{name.removesuffix('.html').replace('/', '-')}-{width}.png")
        assert page.value(TOO_WIDE) == [], f"on a screen of {width} pixels"


@pytest.mark.parametrize("width", WIDTHS)
def test_search_finds_an_option(page, address, width):
    page.resize(width)
    page.open(f"{address}/index.html")
    page.press("/")
    page.wait("document.activeElement.id === 'mdbook-searchbar'")
    page.type("nixos_vm_ip")
    results = "[...document.querySelectorAll('#mdbook-searchresults a')].map(link => link.href)"
    links = page.wait(f"{results}.length && {results}")
    page.screenshot(SCREENSHOTS / f"search-{width}.png")
    found = [link for link in links if "/reference/nixos_vm.html" in link]
    assert found, links
    assert list(complaints(page.open(found[0]))) == []
    assert page.wait("[...document.querySelectorAll('mark')].some(mark => mark.textContent === 'nixos_vm_ip')")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "anchor",
    ["nixos_vm.html#option-nixos_vm_ip", "nixos_vm.html#option-destroy-nixos_vm_name", "proxmox_snapshot.html#result-snapshot.parent", "errors.html#error-timeout"],
)
def test_an_anchor_leads_to_its_row(page, address, anchor, width):
    page.resize(width)
    page.open(f"{address}/reference/{anchor}")
    top, bottom = page.value("(({top, bottom}) => [top, bottom])(document.querySelector(':target').getBoundingClientRect())")
    page.screenshot(SCREENSHOTS / f"{anchor.replace('.html#', '-')}-{width}.png")
    # Below the bar with the menu, which is 50 pixels high.
    assert 50 <= top < bottom <= 900
    name = anchor.split("-")[-1]
    assert page.value("document.querySelector(':target').textContent") == name
    # It links to itself, so that its address can be copied.
    assert page.value("document.querySelector(':target').href") == f"{address}/reference/{anchor}"


def test_diagrams_are_drawn_without_scripts(page, address):
    html = (SITE / "how-it-works.html").read_text()
    assert html.count('<figure class="diagram"') == 3 and "mermaid" not in html
    page.resize(1280)
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.open(f"{address}/how-it-works.html")
        shown = page.value("[...document.querySelectorAll('.diagram')].map(figure => [figure.ariaLabel, figure.querySelector('svg').clientHeight])")
    finally:
        page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert len(shown) == 3
    for label, height in shown:
        assert label and height > 30
