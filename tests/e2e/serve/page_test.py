"""Chat, history, settings and errors of the web page in a real browser (W1, W6 to W8 of the service's contract). Runs
against the stand-in or a real server."""
import re
import time

import pytest
from playwright.sync_api import expect

from page_site import CLIP, MARKDOWN, REFUSED, names_of, never_ends, picture, until


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
    # Where the browser tells of the cut connection before it tells of the leave, the answer is a failed one.
    visit.page.wait_for_selector('.answer:is([data-state="stopped"], [data-state="failed"])')
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
    visit.attach(picture())
    visit.attach(CLIP)
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
