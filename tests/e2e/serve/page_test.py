"""The web page in a real browser: W1 to W12 of the service's contract. Runs against the stand-in or a real server."""
import base64
import json
import re
import time
import urllib.request

import pytest
from playwright.sync_api import expect

import page_rules
from page_site import CLIP, MEDIA, browser, picture, site, until, visit, visit_with  # noqa: F401 (fixtures)

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


def drop(page, kind, files, target="body"):
    """Dispatches a drop (with its drag) or a paste of files made in the page."""
    page.evaluate("""({kind, files, target}) => {
        const data = new DataTransfer();
        for (const {name, type, bytes} of files) data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, {type}));
        const node = document.querySelector(target), how = {bubbles: true, cancelable: true};
        if (kind === 'paste') return void node.dispatchEvent(new ClipboardEvent('paste', {...how, clipboardData: data}));
        for (const name of ['dragenter', 'dragover', 'drop']) node.dispatchEvent(new DragEvent(name, {...how, dataTransfer: data}));
    }""", {"kind": kind, "target": target, "files": [
        {"name": f["name"], "type": f["mimeType"], "bytes": base64.b64encode(f["buffer"]).decode()} for f in files]})


def names_of(page):
    return page.locator(".attachment .name").all_inner_texts()


def budget(page):
    page.wait_for_timeout(450)
    page.wait_for_selector("#total")
    return int(page.get_attribute("#total", "data-total")), int(page.get_attribute("#total", "data-context"))


def never_ends(visit):
    """Asks for an answer that goes on for as long as the context lasts."""
    visit.page.evaluate("localStorage.setItem('internvl.settings', JSON.stringify({max_tokens: 1500}))")
    visit.page.reload()
    until(visit.page, "document.querySelector('#model').textContent !== 'internvl'")
    if visit.site.is_real:
        visit.page.route("**/v1/chat/completions", lambda route: route.continue_(
            post_data=json.dumps({**json.loads(route.request.post_data), "ignore_eos": True})))
    visit.ask("Tell a long story.", wait=False)
    until(visit.page, "document.querySelector('.answer[data-state=running] .prose')?.textContent.length > 5")


# --- W1 ---

def test_text_appears_piece_by_piece(visit):
    never_ends(visit)
    lengths = set()
    for _ in range(10):
        lengths.add(len(visit.answer.locator(".prose").inner_text()))
        visit.page.wait_for_timeout(80)
    assert len(lengths) >= 3
    assert visit.answer.get_attribute("data-state") == "running"
    visit.page.keyboard.press("Escape")
    visit.wait_for_end()


@pytest.mark.parametrize("how", ["escape", "button"])
def test_stop_ends_within_a_second(visit, how):
    before = visit.site.cancelled()
    never_ends(visit)
    began = time.monotonic()
    if how == "escape":
        visit.page.keyboard.press("Escape")
    else:
        visit.page.click("#stop")
    visit.page.wait_for_selector('.answer[data-state="stopped"]')
    assert time.monotonic() - began < 1
    text = visit.answer.locator(".prose").inner_text()
    visit.page.wait_for_timeout(400)
    assert visit.answer.locator(".prose").inner_text() == text
    assert "stopped" in visit.answer.locator(".stats").inner_text()
    deadline = time.monotonic() + 5
    while visit.site.cancelled() <= before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert visit.site.cancelled() > before
    expect(visit.page.locator("#question")).to_be_focused()


# --- W2 ---

def test_pictures_come_by_button_drop_and_paste(visit):
    visit.attach(picture("button.png"))
    drop(visit.page, "drop", [picture("drop.png", 300, 900), picture("second.png")], ".welcome")
    visit.page.wait_for_selector(".attachment >> nth=2")
    drop(visit.page, "paste", [picture("paste.png")], "#question")
    visit.page.wait_for_selector(".attachment >> nth=3")
    assert names_of(visit.page) == ["button.png", "drop.png", "second.png", "paste.png"]
    until(visit.page, "[...document.querySelectorAll('.attachment img')].every((image) => image.naturalWidth > 0)")
    assert visit.page.is_hidden("#drop")


def test_pictures_are_removed_and_put_in_order(visit):
    visit.attach(*[picture(f"{name}.png", colour=(index * 60, 90, 120)) for index, name in enumerate("abcd")])
    visit.page.wait_for_selector(".attachment >> nth=3")
    visit.page.get_by_role("button", name="Move a.png to the right").click()
    assert names_of(visit.page) == ["b.png", "a.png", "c.png", "d.png"]
    expect(visit.page.get_by_role("button", name="Move a.png to the right")).to_be_focused()
    visit.page.keyboard.press("Enter")
    assert names_of(visit.page) == ["b.png", "c.png", "a.png", "d.png"]
    visit.page.drag_and_drop(".attachment >> nth=3", ".attachment >> nth=0")
    assert names_of(visit.page) == ["d.png", "b.png", "c.png", "a.png"]
    visit.page.get_by_role("button", name="Remove c.png").click()
    assert names_of(visit.page) == ["d.png", "b.png", "a.png"]
    visit.script({"text": "Seen."})
    visit.ask("In which order?")
    sent = visit.asked[-1][0]["messages"][-1]["content"]
    assert [part["type"] for part in sent] == ["image_url"] * 3 + ["text"]
    assert len({part["image_url"]["url"] for part in sent[:3]}) == 3


def test_a_video_is_sent_with_its_frames(visit):
    visit.attach(CLIP)
    visit.page.wait_for_selector(".attachment video")
    assert "8 frames" in visit.page.inner_text(".attachment .facts")
    drop(visit.page, "drop", [{"name": "second.mp4", "mimeType": "video/mp4", "buffer": b"x"}])
    assert "one video" in visit.page.inner_text("#warning")
    visit.script({"text": "A clip."})
    visit.ask("What happens?")
    part = visit.asked[-1][0]["messages"][-1]["content"][0]
    assert part["type"] == "video_url" and part["video_url"]["num_segments"] == 8
    assert part["video_url"]["url"].startswith("data:video/mp4;base64,")


def test_other_files_are_refused_by_name(visit):
    visit.attach({"name": "notes.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7"})
    visit.page.wait_for_selector("#warning:not([hidden])")
    assert "notes.pdf" in visit.page.inner_text("#warning")
    assert names_of(visit.page) == []


def test_sizes_are_read_as_stored(visit):
    """EXIF rotation is not what the model sees."""
    expected = {"exif_rotated.jpg": None, "progressive_420.jpg": None, "lossy.webp": None, "lossless_alpha.webp": None,
                "animated.gif": None, "cmyk.jpg": None, "gray16.png": None}
    for name in expected:
        visit.attach(MEDIA / name)
    until(visit.page, f"document.querySelectorAll('.attachment').length === {len(expected)}")
    kept = {media["name"]: (media["width"], media["height"]) for media in _draft(visit)}
    for name in expected:
        url = "data:image/x;base64," + base64.b64encode((MEDIA / name).read_bytes()).decode()
        if not visit.site.is_real and name.endswith(".webp"):
            continue  # the stand-in does not read it
        row = visit.site.call("/v1/estimate", {"images": [{"image_url": {"url": url}}]})["images"][0]
        assert kept[name] == (row["width"], row["height"]), name


def _draft(visit):
    """Sends the draft and reads it back from where the page keeps it."""
    visit.script({"text": "Seen."})
    visit.ask("Sizes?")
    return visit.page.evaluate("""() => JSON.parse(localStorage.getItem('internvl.conversation.' +
        JSON.parse(localStorage.getItem('internvl.conversations'))[0].id)).turns.at(-1).question.media""")


# --- W3, W4 ---

def test_cost_is_told_before_sending(visit):
    visit.attach(picture(width=640, height=480))
    visit.page.fill("#question", "Please describe the image shortly.")
    visit.page.wait_for_selector('[data-fact="tokens"]')
    facts = {name: visit.page.inner_text(f'[data-fact="{name}"]') for name in ("grid", "tiles", "tokens")}
    assert facts == {"grid": "4 × 3", "tiles": "13", "tokens": "3,328"}
    told = visit.site.call("/v1/estimate?width=640&height=480")["images"][0]
    assert (told["grid"], told["tiles"], told["tokens"]) == ([4, 3], 13, 3328)
    total, context = budget(visit.page)
    assert visit.asked == []
    visit.script({"text": "Good."})
    visit.ask("Please describe the image shortly.")
    model = visit.site.call("/v1/models")["data"][0]
    whole = visit.site.call("/v1/estimate", {"model": model["id"], "messages": visit.asked[-1][0]["messages"]})
    assert (total, context) == (whole["prompt_tokens"], whole["max_model_len"])


def test_what_does_not_fit_is_said_and_mended(visit):
    context = visit.site.call("/v1/models")["data"][0]["max_model_len"]
    visit.attach(*[picture(f"{index}.png") for index in range(context // 3328 + 1)])
    total, _ = (visit.page.wait_for_selector("#fit"), budget(visit.page))[1]
    assert total > context
    assert "does not fit" in visit.page.inner_text("#warning")
    visit.shot("warning")
    visit.page.click("#fit")
    until(visit.page, "document.querySelector('#warning').hidden")
    total, _ = budget(visit.page)
    limit = int(visit.page.input_value("#limit"))
    assert total < context and 1 <= limit < 12
    visit.page.select_option("#limit", "1")
    until(visit.page, "[...document.querySelectorAll('[data-fact=tiles]')].every((node) => node.textContent === '1')")
    visit.script({"text": "Good."})
    visit.ask("Now?")
    assert visit.asked[-1][0]["messages"][-1]["content"][0]["image_url"]["max_dynamic_patch"] == 1


def test_the_tiles_of_the_model_are_shown(visit):
    file = picture(width=640, height=480)
    visit.attach(file)
    visit.page.get_by_role("button", name="Tiles of picture.png").click()
    visit.page.wait_for_selector(".tile img >> nth=12")
    shown = visit.page.eval_on_selector_all(".tile img", "(images) => images.map((image) => image.src)")
    url = "data:image/png;base64," + base64.b64encode(file["buffer"]).decode()
    told = visit.site.call("/v1/estimate", {"images": [{"image_url": {"url": url}}], "return_tiles": True})
    assert shown == (told.get("tiles_png") or told["images"][0]["tiles_png"]) and len(shown) == 13
    until(visit.page, "[...document.querySelectorAll('.tile img')].every((image) => image.naturalWidth === 448)")
    assert "thumbnail" in visit.page.locator(".tile figcaption").last.inner_text()
    visit.shot("tiles")
    visit.page.keyboard.press("Escape")
    assert visit.page.is_hidden("#viewer")


# --- W5 ---

def assert_box_fits(page, root):
    found = page.evaluate("""(root) => {
        const rect = (node) => { const {left, top, width, height} = node.getBoundingClientRect(); return [left, top, width, height]; };
        return [rect(document.querySelector(root + ' img')), rect(document.querySelector(root + ' .box'))];
    }""", root)
    (x, y, w, h), box = found
    wanted = [x + 0.1 * w, y + 0.2 * h, 0.4 * w, 0.6 * h]
    assert w > 40 and h > 40
    assert all(abs(a - b) <= 1 for a, b in zip(wanted, box)), (wanted, box)


def test_boxes_lie_where_they_belong(visit):
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=visit.site.base)
    visit.attach(picture(width=800, height=600))
    visit.script({"text": BOXES})
    visit.ask("Where is the cat?")
    visit.page.wait_for_selector(".grounded .box >> nth=1")
    until(visit.page, "document.querySelector('.grounded img').complete")
    assert visit.page.locator(".grounded .box span").all_inner_texts() == ["the cat", "a window"]
    assert "<ref>" not in visit.answer.inner_text()
    for width_, height in ((1280, 860), (500, 700), (320, 640), (1900, 1000)):
        visit.page.set_viewport_size({"width": width_, "height": height})
        assert_box_fits(visit.page, ".grounded")
    visit.page.evaluate("document.documentElement.style.zoom = 1.7")
    assert_box_fits(visit.page, ".grounded")
    visit.page.evaluate("document.documentElement.style.zoom = 1")
    visit.page.get_by_role("button", name="Show the picture large").click()
    for _ in range(3):
        assert_box_fits(visit.page, ".viewer")
        visit.page.get_by_role("button", name="Larger").click()
    visit.page.keyboard.press("Escape")
    visit.page.get_by_role("button", name="Copy the coordinates of the cat").click()
    visit.page.wait_for_timeout(100)
    assert visit.page.evaluate("navigator.clipboard.readText()") == "[100, 200, 500, 800]"
    visit.page.get_by_role("button", name="Copy all boxes as JSON").click()
    visit.page.wait_for_timeout(100)
    copied = json.loads(visit.page.evaluate("navigator.clipboard.readText()"))
    assert copied[0] == {"label": "the cat", "box": [100, 200, 500, 800], "pixels": [80, 120, 400, 480]}


def test_boxes_without_tags_and_told_by_the_server(visit):
    visit.attach(picture())
    visit.script({"text": "Here: the dog[[10, 20, 300, 400], [500, 500, 900, 900]] and nothing else, [1] or [2]."},
                 {"text": "There.", "boxes": [{"choice": 0, "label": "told", "box": [1, 2, 30, 40], "pixels": None}]})
    visit.ask("Where are the dogs?")
    visit.page.wait_for_selector(".grounded .box >> nth=1")
    assert visit.page.locator(".grounded .box").count() == 2
    visit.ask("And now?")
    visit.page.wait_for_selector(".turn:nth-child(2) .grounded .box")
    assert visit.answer.locator(".box").get_attribute("data-box") == "1,2,30,40"


# --- W6 ---

def test_edit_regenerate_copy_clear(visit):
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=visit.site.base)
    visit.script({"text": "First."}, {"text": "Second."}, {"text": "Again."}, {"text": "Edited."})
    visit.attach(picture())
    visit.ask("Question one")
    visit.ask("Question two")
    assert [message["role"] for message in visit.asked[-1][0]["messages"]] == ["user", "assistant", "user"]
    page.get_by_role("button", name="Regenerate the answer").click()
    until(page, "document.body.innerText.includes('Again.')")
    visit.wait_for_end()
    assert "Second." not in page.inner_text("#transcript")
    visit.answer.get_by_role("button", name="Copy the answer").click()
    page.wait_for_timeout(100)
    assert page.evaluate("navigator.clipboard.readText()").strip() == "Again."
    page.get_by_role("button", name="Edit the question").first.click()
    assert page.input_value("#question") == "Question one" and names_of(page) == ["picture.png"]
    page.keyboard.press("Escape")
    assert page.input_value("#question") == "" and page.locator(".turn").count() == 2
    page.get_by_role("button", name="Edit the question").first.click()
    visit.ask("Question three")
    assert page.locator(".turn").count() == 1
    assert "Edited." in visit.answer.inner_text()
    assert len(visit.asked[-1][0]["messages"]) == 1 and visit.asked[-1][0]["messages"][0]["content"][0]["type"] == "image_url"
    page.click("#clear")
    page.click("#confirm-yes")
    page.wait_for_selector("#welcome", state="visible")
    assert page.locator(".turn").count() == 0


def test_a_conversation_outlives_a_reload(visit):
    page = visit.page
    visit.script({"text": MARKDOWN})
    visit.attach(picture("kept.png", 320, 200))
    visit.ask("Keep this")
    page.reload()
    page.wait_for_selector(".turn")
    until(page, "document.querySelector('.thumb img')?.naturalWidth === 320")
    assert "A red car" in visit.answer.inner_text() and "tokens/s" in visit.answer.inner_text()
    visit.script({"text": "Still there."})
    visit.ask("And the picture?")
    assert visit.asked[-1][0]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    page.click("#new-conversation")
    visit.script({"text": "Other."})
    visit.ask("Another conversation")
    assert page.locator("#conversations li").count() == 2
    page.locator("#conversations .open", has_text="Keep this").click()
    assert page.locator(".turn").count() == 2


def test_delete_all_leaves_nothing(visit):
    page = visit.page
    visit.script({"text": "One."}, {"text": "Two."})
    visit.attach(picture())
    visit.ask("First")
    page.click("#new-conversation")
    visit.ask("Second")
    page.click("#delete-all")
    page.click("#confirm-yes")
    page.wait_for_selector("#welcome", state="visible")
    until(page, "document.querySelectorAll('#conversations li').length === 0")
    page.wait_for_timeout(200)
    assert page.evaluate("Object.keys(localStorage).filter((name) => name.includes('conversation') && localStorage[name] !== '[]')") == []
    assert page.evaluate("""() => new Promise((resolve) => { const open = indexedDB.open('internvl');
        open.onsuccess = () => { const all = open.result.transaction('media').objectStore('media').count(); all.onsuccess = () => resolve(all.result); }; })""") == 0
    page.reload()
    assert page.locator(".turn").count() == 0


def test_an_answer_cut_by_a_reload_is_kept(visit):
    never_ends(visit)
    visit.page.reload()
    visit.page.wait_for_selector('.answer[data-state="stopped"]')
    assert len(visit.answer.locator(".prose").inner_text()) > 5
    assert visit.page.get_by_role("button", name="Continue").is_visible()


# --- W7 ---

def test_settings_go_into_the_request(visit):
    page = visit.page
    page.click("#open-settings")
    wanted = {"temperature": "0.3", "top_p": "0.9", "top_k": "7", "max_tokens": "33", "seed": "-5", "system": "Be brief.",
              "tile_limit": "4", "frames": "3"}
    for name, value in wanted.items():
        page.fill(f'#settings [name="{name}"]', value)
    page.select_option('#settings [name="detail"]', "low")
    page.select_option('#settings [name="placement"]', "inline")
    page.fill('#settings [name="temperature"]', "3")
    assert page.get_attribute('#settings [name="temperature"]', "aria-invalid") == "true"
    page.fill('#settings [name="temperature"]', "0.3")
    page.fill('#settings [name="key"]', "sixteen-bytes-and-more")
    page.get_by_role("button", name="Done").click()
    visit.attach(picture(), CLIP)
    page.wait_for_selector(".attachment video")
    visit.script({"text": "Yes."})
    visit.ask("Hello")
    body, headers = visit.asked[-1]
    assert {name: body[name] for name in ("temperature", "top_p", "top_k", "max_tokens", "seed", "image_placement")} == {
        "temperature": 0.3, "top_p": 0.9, "top_k": 7, "max_tokens": 33, "seed": -5, "image_placement": "inline"}
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    image, video, _ = body["messages"][1]["content"]
    assert (image["image_url"]["max_dynamic_patch"], image["image_url"]["detail"]) == (4, "low")
    assert video["video_url"]["num_segments"] == 3
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert headers["authorization"] == "Bearer sixteen-bytes-and-more"
    kept = page.evaluate("JSON.stringify({...localStorage})")
    assert "sixteen-bytes" not in kept and "Be brief." in kept
    assert "sixteen-bytes" in page.evaluate("JSON.stringify({...sessionStorage})")
    other = page.context.new_page()
    other.goto(visit.site.base)
    assert "sixteen-bytes" not in other.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")


def test_untouched_settings_send_nothing(visit):
    visit.script({"text": "Yes."})
    visit.ask("Hello")
    assert set(visit.asked[-1][0]) == {"model", "messages", "stream", "stream_options", "return_info", "skip_special_tokens"}
    visit.page.click("#open-settings")
    defaults = visit.site.call("/v1/models")["data"][0]["defaults"]
    assert visit.page.get_attribute('#settings [name="top_k"]', "placeholder") == str(defaults["top_k"])


# --- W8 ---

def test_speed_and_finish_are_shown(visit):
    visit.script({"text": "One two three four five.", "delay": 0.05, "finish": "length"}, {"text": " six", "finish": "stop"})
    visit.ask("Count")
    stats = visit.answer.locator(".stats").inner_text()
    assert re.search(r"\d+ tokens", stats) and "first token after" in stats and "finish reason: length" in stats
    assert visit.site.is_real or re.search(r"\d+\.\d tokens/s", stats)
    visit.page.get_by_role("button", name="Continue").click()
    until(visit.page, "document.querySelector('.answer').textContent.includes('six')")
    visit.wait_for_end()
    assert visit.asked[-1][0]["messages"][-1]["role"] == "assistant"
    assert "finish reason: stop" in visit.answer.locator(".stats").inner_text()


@pytest.mark.parametrize("reply, words", [
    ({"status": 400, "error": {"message": "temperature: a number from 0 to 2 was expected, found 9.", "code": "invalid_value"}}, "from 0 to 2"),
    ({"status": 500, "error": {"message": "Internal error, request id req-1", "code": "internal_error"}, "headers": {"x-should-retry": "false"}}, "Internal error"),
    ({"text": "Half of an answer that breaks", "break": "error"}, "Internal error"),
    ({"text": "Half of an answer that ends", "break": "cut"}, "before the answer was complete"),
])
def test_errors_are_shown_as_the_server_words_them(visit_with, reply, words):
    visit = visit_with()
    visit.script(reply)
    visit.ask("Break")
    visit.page.wait_for_selector('.answer[data-state="failed"]')
    status = visit.answer.locator(".status")
    assert words in status.inner_text()
    assert status.locator(".request-id").inner_text().startswith("req-")
    visit.script({"text": "Now it works."})
    visit.page.get_by_role("button", name=re.compile("Regenerate|Ask again")).click()
    visit.page.wait_for_selector('.answer[data-state="done"]')
    visit.check_manners((*REFUSED, "ERR_INCOMPLETE_CHUNKED_ENCODING"))


def test_a_busy_server_is_waited_for(visit_with):
    visit = visit_with()
    busy = {"status": 429, "headers": {"Retry-After": "2"}, "error": {"message": "The queue is full.", "code": "queue_full"}}
    visit.script(busy, {"text": "At last."})
    began = time.monotonic()
    visit.ask("Are you free?", wait=False)
    until(visit.page, "document.querySelector('.answer .note')?.textContent.includes('Trying again in')")
    visit.page.wait_for_selector('.answer[data-state="done"]')
    assert 2 <= time.monotonic() - began < 6
    assert "At last." in visit.answer.inner_text() and len(visit.asked) == 2
    visit.script({**busy, "headers": {"Retry-After": "60"}})
    visit.ask("Again?", wait=False)
    until(visit.page, "document.querySelector('.turn:last-child .note')?.textContent.includes('Trying again in')")
    visit.page.keyboard.press("Escape")
    visit.page.wait_for_selector('.turn:last-child .answer[data-state="stopped"]', timeout=1500)
    visit.check_manners(REFUSED)


def test_a_missing_key_is_asked_for(visit_with):
    visit = visit_with()
    visit.script({"status": 401, "error": {"message": "An API key is needed.", "code": "invalid_api_key"}})
    visit.ask("Hello")
    visit.answer.get_by_role("button", name="Enter the API key").click()
    expect(visit.page.locator('#settings [name="key"]')).to_be_focused()


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
    assert visit.answer.locator("img, script, iframe, style, b, i, object, embed, form").count() == 0
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
    visit.attach(picture(), CLIP)
    visit.page.wait_for_selector(".attachment video")
    visit.ask("Everything at once")
    visit.page.locator(".thumb").nth(1).click()
    visit.page.wait_for_selector("#viewer video")
    visit.page.keyboard.press("Escape")
    assert not any(text.startswith("POLICY") for text in visit.complaints)
