"""What the tests of the web page share (a plugin of pytest: `-p page_site`): the server, the browser, and a page that is
watched while it is used.

    INTERNVL_PAGE_URL    a running `internvl serve`; without it the stand-in is started
    INTERNVL_PAGE_KEY    its API key, if it has one
    INTERNVL_PAGE_SHOTS  a folder for pictures of the page
    CHROMIUM             the browser's program
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
from playwright.sync_api import Page, sync_playwright

from stand_in import png

HERE = pathlib.Path(__file__).resolve().parent
MEDIA = HERE.parents[1] / "golden" / "media"
SHOTS = os.environ.get("INTERNVL_PAGE_SHOTS")
KEY = os.environ.get("INTERNVL_PAGE_KEY", "")
CLIP = MEDIA / "clip_24fps.mp4"

# Told to the test when the browser refuses something because of the page's policy.
WATCH_POLICY = """addEventListener('securitypolicyviolation', (event) =>
    console.error('POLICY ' + event.violatedDirective + ' ' + event.blockedURI));"""

BOXES = "The cat is here: <ref>the cat</ref><box>[[100, 200, 500, 800]]</box> and <ref>a window</ref><box>[[560, 20, 960, 470]]</box>."
MARKDOWN = """## A short look

The scene is **calm**, with *soft* light and a [source](https://example.org/a). It has:

1. A red car
2. Two people
   - one with a hat
   - one with a dog

| object | count |
| --- | ---: |
| car | 1 |

```python
for box in boxes:
    print(box)
```

> A quoted line.
"""
REFUSED = ("Failed to load resource",)  # what the browser itself writes about a status of 400 and more


class Site:
    """The server under test."""

    def __init__(self, base, is_real):
        self.base, self.is_real = base.rstrip("/"), is_real
        self.host = urllib.parse.urlsplit(self.base).netloc

    def call(self, path, body=None):
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {KEY}"} if KEY else {})}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.base + path, data, headers)) as reply:
            text = reply.read().decode()
            return json.loads(text) if text.startswith(("{", "[")) else text

    def cancelled(self):
        """How many requests were cancelled so far."""
        if not self.is_real:
            return self.call("/script")["cancelled"]
        rows = [row for row in self.call("/metrics").splitlines()
                if row.startswith("internvl_requests_total{") and 'finish="cancelled"' in row]
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


class Visit:
    """A page in a browser; collects what it says and asks for."""

    def __init__(self, page: Page, site: Site):
        self.page, self.site = page, site
        self.complaints, self.addresses, self.asked = [], [], []
        page.add_init_script(WATCH_POLICY)
        page.on("console", lambda message: message.type in ("error", "warning") and self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self.note)

    def note(self, request):
        self.addresses.append(request.url)
        if request.url.endswith("/v1/chat/completions"):
            self.asked.append((json.loads(request.post_data), request.headers))

    def open(self):
        if KEY:
            self.page.add_init_script(f"sessionStorage.setItem('internvl.key', {json.dumps(json.dumps(KEY))})")
        self.page.goto(self.site.base + "/")
        until(self.page, "document.querySelector('#model').textContent !== 'internvl'")
        return self

    def script(self, *replies):
        """Decides what the next chat requests are answered with; more follow the last one."""
        if not self.site.is_real:
            self.site.call("/script", {"replies": list(replies)})
            return
        planned = list(replies)

        def fulfil(route):
            if not planned:
                route.continue_()
                return
            reply = planned.pop(0)
            if "status" in reply:
                route.fulfill(status=reply["status"], json={"error": reply["error"]},
                              headers={"x-request-id": "req-scripted", **reply.get("headers", {})})
            else:
                route.fulfill(status=200, content_type="text/event-stream", body=event_stream(reply),
                              headers={"x-request-id": "req-scripted"})
        self.page.unroute("**/v1/chat/completions")
        self.page.route("**/v1/chat/completions", fulfil)

    def ask(self, text, wait=True):
        self.page.fill("#question", text)
        self.page.keyboard.press("Enter")
        if wait:
            self.wait_for_end()

    def wait_for_end(self, timeout=60000):
        self.page.wait_for_selector("#send:not([hidden])", state="visible", timeout=timeout)

    def attach(self, *files):
        self.page.set_input_files("#files", [file if isinstance(file, dict) else str(file) for file in files])

    @property
    def answer(self):
        return self.page.locator(".answer").last

    def shot(self, name):
        if SHOTS:
            pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{SHOTS}/{name}.png")

    def check_manners(self, allowed=()):
        """No errors but those `allowed`, and no traffic but with the server."""
        foreign = [url for url in self.addresses if not url.startswith(("data:", "blob:")) and
                   urllib.parse.urlsplit(url).netloc != self.site.host]
        assert foreign == []
        assert [text for text in self.complaints if not any(word in text for word in allowed)] == []


def until(page, expression, seconds=15):
    """Waits until a JavaScript expression holds. (The page's policy forbids what playwright's own wait does.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never came true: {expression}"
        page.wait_for_timeout(30)


def event_stream(reply):
    """A scripted answer as the bytes of an event stream."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": None}
    deltas = [{"role": "assistant", "content": ""}] + [{"content": piece + " "} for piece in reply["text"].split(" ")]
    cut = len(deltas) // 2 if "break" in reply else len(deltas)
    events = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas[:cut]]
    if reply.get("break") == "error":
        events.append({"error": {"message": "Internal error, request id req-scripted", "code": "internal_error"}})
    if "break" not in reply:
        events += [{**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.get("finish", "stop")}],
                    "internvl": {"boxes": reply.get("boxes", [])}},
                   {**head, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(deltas) - 1}}]
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return lines + ("" if "break" in reply else "data: [DONE]\n\n")


def picture(name="picture.png", width=640, height=480, colour=(90, 140, 200)):
    """A file of one colour for an input or a drop."""
    return {"name": name, "mimeType": "image/png", "buffer": png(*colour, width, height)}


@pytest.fixture(scope="session")
def site():
    if "INTERNVL_PAGE_URL" in os.environ:
        yield Site(os.environ["INTERNVL_PAGE_URL"], True)
        return
    server = subprocess.Popen([sys.executable, str(HERE / "stand_in.py")], stdout=subprocess.PIPE, text=True)
    yield Site(server.stdout.readline().strip(), False)
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def browser():
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def visit_with(browser, site):
    """Opens the page as wanted: visit_with(viewport=…, color_scheme=…)."""
    contexts = []

    def make(**wanted):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **wanted})
        context.set_default_timeout(15000)
        contexts.append(context)
        visit = Visit(context.new_page(), site)
        visit.script()
        return visit.open()
    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def visit(visit_with):
    """The page on a desktop. What it complains of fails the test."""
    opened = visit_with()
    yield opened
    opened.check_manners()


def budget(page):
    page.wait_for_timeout(450)
    page.wait_for_selector("#total")
    return int(page.get_attribute("#total", "data-total")), int(page.get_attribute("#total", "data-context"))


def never_ends(visit):
    """Asks for an answer that goes on for as long as the context lasts: a tiny model writes thousands of tokens a second, so a
    real server is given more to write for each."""
    most = visit.site.call("/v1/models")["data"][0]["max_model_len"] - 192
    visit.page.evaluate(f"localStorage.setItem('internvl.settings', JSON.stringify({{max_tokens: {most}}}))")
    visit.page.reload()
    until(visit.page, "document.querySelector('#model').textContent !== 'internvl'")
    if visit.site.is_real:
        visit.page.route("**/v1/chat/completions", lambda route: route.continue_(
            post_data=json.dumps({**json.loads(route.request.post_data), "ignore_eos": True, "logprobs": True, "top_logprobs": 20})))
    visit.ask("Tell a long story.", wait=False)
    until(visit.page, "document.querySelector('.answer[data-state=running] .prose')?.textContent.length > 5")


def names_of(page):
    return page.locator(".attachment .name").all_inner_texts()
