"""How the web page behaves: keyboard, names, contrast, themes, hostile answers, policy (W9 to W12)."""
import time
import urllib.request

import pytest
from playwright.sync_api import expect

import page_rules
from page_site import BOXES, CLIP, MARKDOWN, REFUSED, budget, never_ends, picture, until


# --- W9 ---

def test_keys(visit):
    page = visit.page
    visit.script({"text": "Yes."})
    page.focus("#question")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#question") == "one\ntwo" and visit.asked == []
    page.keyboard.press("Enter")
    visit.wait_for_end()
    assert visit.asked[-1][0]["messages"][-1]["content"] == "one\ntwo"
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.press("Enter")
    assert len(visit.asked) == 1


def fill_page(visit):
    """A conversation with a bit of everything."""
    visit.script({"text": MARKDOWN}, {"text": BOXES}, {"status": 400, "error": {"message": "It is too long.", "code": "x"}})
    visit.attach(picture("street.png", 800, 600), picture("tree.png", 300, 500, (60, 120, 80)))
    visit.page.wait_for_selector(".attachment >> nth=1")
    visit.ask("What is in these pictures? Please compare them.")
    visit.ask("Where is the cat?")
    visit.page.wait_for_selector(".grounded .box")
    visit.ask("And this one fails.")
    visit.attach(picture("next.png"), picture("over.png"))
    visit.page.wait_for_selector('[data-fact="tokens"]')
    visit.page.fill("#question", "The next question")
    budget(visit.page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width, height", [(320, 640), (768, 1024), (1280, 860)])
def test_rules_hold_in_every_size_and_theme(visit_with, width, height, scheme):
    visit = visit_with(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = visit.page
    name = f"{width}-{scheme}"

    def rules(where):
        page.wait_for_timeout(250)
        visit.shot(f"{name}-{where}")
        assert page_rules.names(page) + page_rules.contrast(page) + page_rules.width(page) == [], where
    rules("welcome")
    fill_page(visit)
    page.evaluate("document.querySelector('.turn').scrollIntoView()")
    rules("answer")
    page.evaluate("document.querySelector('.grounded').scrollIntoView({block: 'center'})")
    rules("boxes")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    rules("composer")
    page.click("#open-settings")
    rules("settings")
    page.keyboard.press("Escape")
    page.locator(".show-tiles").first.click()
    page.wait_for_selector(".tile")
    rules("tiles")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show the picture large").first.click()
    rules("large")
    page.keyboard.press("Escape")
    if width < 1024:
        page.click("#open-sidebar")
        rules("sidebar")
        page.keyboard.press("Escape")
        expect(page.locator("#open-sidebar")).to_be_focused()
    page.click("#clear")
    rules("confirm")
    page.click('#confirm [value="no"]')
    visit.check_manners(REFUSED)


@pytest.mark.parametrize("width, height", [(1280, 860), (320, 640)])
def test_everything_is_reached_by_tab(visit_with, width, height):
    visit = visit_with(viewport={"width": width, "height": height})
    assert page_rules.focus_order(visit.page) == []
    fill_page(visit)
    assert page_rules.focus_order(visit.page) == []
    visit.page.click("#open-settings")
    assert page_rules.focus_order(visit.page) == []


def test_answers_are_spoken_once_a_sentence(visit):
    page = visit.page
    page.evaluate("""() => { window.spoken = []; new MutationObserver((changes) => { for (const change of changes)
        for (const node of change.addedNodes) spoken.push(node.textContent); }).observe(document.querySelector('#announcer'), {childList: true}); }""")
    assert page.get_attribute("#announcer", "aria-live") == "polite"
    visit.script({"text": "The first sentence is here. The second one asks? And a third", "delay": 0.03})
    visit.ask("Speak")
    spoken = page.evaluate("spoken")
    assert " ".join(spoken).count("The first sentence is here.") == 1
    assert [text for text in spoken if text.startswith(("The", "And"))][:3] != []
    assert "And a third" in " ".join(spoken)
    if not visit.site.is_real:
        assert spoken[:3] == ["The first sentence is here.", "The second one asks?", "And a third"]


@pytest.mark.parametrize("width, height", [(320, 256), (640, 512), (360, 740)])
def test_zoomed_to_twice_the_size(visit_with, width, height):
    visit = visit_with(viewport={"width": width, "height": height}, device_scale_factor=2)
    visit.script({"text": MARKDOWN})
    visit.attach(picture())
    visit.page.wait_for_selector(".attachment")
    visit.ask("Is it usable?")
    assert page_rules.width(visit.page) == []
    visit.page.focus("#question")
    box = visit.page.locator("#question").bounding_box()
    assert 0 <= box["y"] and box["y"] + box["height"] <= height
    visit.page.click("#open-settings")
    assert page_rules.width(visit.page) == []
    visit.page.get_by_role("button", name="Done").click()


# --- W10 ---

def ground(page):
    """How light the page is, 0 to 255."""
    return page.evaluate("""() => { const pixel = document.createElement('canvas').getContext('2d');
        pixel.fillStyle = getComputedStyle(document.body).backgroundColor; pixel.fillRect(0, 0, 1, 1); return pixel.getImageData(0, 0, 1, 1).data[1]; }""")


def test_theme_follows_the_system_and_the_switch(visit_with):
    visit = visit_with(color_scheme="dark")
    assert ground(visit.page) < 60
    visit.page.emulate_media(color_scheme="light")
    assert ground(visit.page) > 200
    visit.page.click("#theme")
    assert ground(visit.page) < 60
    visit.page.reload()
    assert ground(visit.page) < 60
    visit.page.click("#open-settings")
    visit.page.select_option('#settings [name="theme"]', "")
    assert ground(visit.page) > 200
    visit.check_manners()


def test_nothing_moves_when_motion_is_not_wanted(visit_with):
    visit = visit_with(reduced_motion="reduce")
    never_ends(visit)
    assert visit.page.evaluate("document.getAnimations().length") == 0
    visit.page.keyboard.press("Escape")
    visit.page.emulate_media(reduced_motion="no-preference")
    visit.wait_for_end()


# --- W11, W12 ---

HOSTILE = """<img src="x" onerror="window.hacked = 1"> <script>window.hacked = 2</script>

![a picture](http://evil.example/pixel.png) and ![](http://evil.example/p.gif)

[click](javascript:window.hacked=3) [data](data:text/html,<script>hacked=4</script>) <javascript:hacked=5> [ok](https://example.org/a?b=c)

<iframe src="http://evil.example/"></iframe> <svg onload="hacked=6"> <style>body{display:none}</style>

| <b>x</b> | [y](JavaScript:hacked=7) |
| --- | --- |
| <img src=x onerror=hacked=8> | ` <i>code</i> ` |

```html
<script>hacked = 9</script>
```
"""


def test_hostile_answers_stay_text(visit):
    page = visit.page
    visit.script({"text": HOSTILE + HOSTILE.replace("\n\n", " ")})
    visit.ask("Attack")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    assert visit.answer.locator(".prose").locator("img, script, iframe, style, b, i, object, embed, form").count() == 0
    assert visit.answer.locator("svg:not([aria-hidden])").count() == 0
    links = visit.answer.locator("a").evaluate_all("(links) => links.map(({href, rel, target}) => ({href, rel, target}))")
    assert links and all(link["href"].startswith(("http://evil.example/", "https://example.org/")) for link in links)
    assert all("noopener" in link["rel"] and link["target"] == "_blank" for link in links)
    assert '<img src="x" onerror="window.hacked = 1">' in visit.answer.inner_text()
    assert "javascript:window.hacked=3" in visit.answer.inner_text()
    assert not any("evil" in address for address in visit.addresses)
    page.reload()
    page.wait_for_selector(".answer")
    assert page.evaluate("window.hacked") is None


def test_hostile_names_and_questions_stay_text(visit):
    evil = '<img src=x onerror="window.hacked=1">.png'
    visit.script({"text": "<ref><img src=x onerror=hacked=2></ref><box>[[1, 2, 300, 400]]</box> <ref>**x**</ref><box>[[900, 9999, -5, 3]]</box>"})
    visit.attach(picture(evil))
    visit.page.wait_for_selector(".attachment")
    visit.ask(evil)
    visit.page.wait_for_timeout(300)
    assert visit.page.evaluate("window.hacked") is None
    assert visit.page.inner_text(".bubble") == evil


def test_markdown_is_drawn(visit):
    visit.script({"text": MARKDOWN})
    visit.ask("Markdown")
    prose = visit.answer.locator(".prose")
    for selector, text in (("h4", "A short look"), ("strong", "calm"), ("em", "soft"), ("ol > li > ul > li >> nth=1", "one with a dog"),
                           ("tbody td.to-end", "1"), ("pre code", "    print(box)"), ("blockquote p", "A quoted line."), ("a", "source")):
        assert text in prose.locator(selector).first.inner_text(), selector


def test_text_that_only_opens_things_is_drawn_at_once(visit):
    for text in ("**a " * 3000, "`" * 4000 + "x", "> " * 3000, "[a " * 3000, "*" * 5000, "<ref>" * 2000, "[[" * 4000):
        visit.script({"text": text, "delay": 0})
        began = time.monotonic()
        visit.ask("Open")
        assert time.monotonic() - began < 4, text[:5]
        visit.page.evaluate("1")
        assert time.monotonic() - began < 4, text[:5]


def test_policy_is_sent_and_never_hurt(visit):
    with urllib.request.urlopen(visit.site.base + "/") as reply:
        policy = reply.headers["Content-Security-Policy"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Content-Type"].startswith("text/html")
    for part in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:", "media-src blob:",
                 "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    visit.script({"text": BOXES})
    visit.attach(picture())
    visit.attach(CLIP)
    visit.page.wait_for_selector(".attachment video")
    visit.ask("Everything at once")
    visit.page.locator(".thumb").nth(1).click()
    visit.page.wait_for_selector("#viewer video")
    visit.page.keyboard.press("Escape")
    assert not any(text.startswith("POLICY") for text in visit.complaints)
