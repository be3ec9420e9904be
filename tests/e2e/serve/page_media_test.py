"""Pictures and videos on the web page: taking them in, what they cost, tiles, boxes (W2 to W5)."""
import base64
import json

from playwright.sync_api import expect

from page_site import BOXES, CLIP, MEDIA, budget, names_of, picture, until


def address(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


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
    expect(visit.page.locator(".attachment .facts")).to_contain_text("8 frames")
    drop(visit.page, "drop", [{"name": "second.mp4", "mimeType": "video/mp4", "buffer": b"x"}])
    expect(visit.page.locator("#warning")).to_contain_text("one video")
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
    expected = ["exif_rotated.jpg", "progressive_420.jpg", "lossy.webp", "lossless_alpha.webp", "animated.gif", "cmyk.jpg",
                "gray16.png"]
    visit.attach(*[MEDIA / name for name in expected])
    until(visit.page, f"document.querySelectorAll('.attachment').length === {len(expected)}")
    kept = {media["name"]: (media["width"], media["height"]) for media in _draft(visit)}
    for name in expected:
        url = address((MEDIA / name).read_bytes())
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
    url = address(file["buffer"])
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
