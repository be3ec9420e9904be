"""Pictures and videos (I1 to I5, V1 to V3, Q5 of the conformance list)."""
import base64
import hashlib
import io
import json

import openai
import pytest
from api_site import MEDIA, TESTS, Service, chat, medium, picture, png, service, video, words  # noqa: F401
from PIL import Image

EXPECTED = json.loads((MEDIA / "expected.json").read_text())
MORE = TESTS / "unit/serve/media"


def estimate(service, **picture):
    answer = service.post("/v1/estimate", {"images": [picture]})
    return answer.json()["images"][0] if answer.status == 200 else answer


# I1: size; grid at a limit of 12, 6 and 24; those with more than one tile get a thumbnail.
@pytest.mark.parametrize("width, height, at_12, at_6, at_24", [
    (448, 448, "1x1", "1x1", "1x1"), (449, 448, "1x1", "1x1", "1x1"), (100, 100, "1x1", "1x1", "1x1"),
    (633, 633, "1x1", "1x1", "1x1"), (634, 634, "2x2", "2x2", "2x2"), (640, 480, "4x3", "3x2", "4x3"),
    (800, 600, "4x3", "3x2", "4x3"), (1024, 768, "4x3", "3x2", "4x3"), (1920, 1080, "4x2", "2x1", "5x3"),
    (1080, 1920, "2x4", "1x2", "3x5"), (3000, 200, "12x1", "6x1", "15x1"), (1280, 720, "4x2", None, None),
    (2000, 2000, "3x3", "2x2", "4x4"), (896, 448, "2x1", "2x1", None), (1000, 667, "3x2", None, None),
    (612, 792, "3x4", "2x3", None), (560, 448, "4x3", "1x1", "5x4"), (1125, 900, "4x3", "3x2", "5x4"),
    (7, 8, "1x1", None, None), (1400, 1600, "3x4", None, None), (17, 12, "3x2", None, None),
    (600, 4480, "1x8", None, None), (9, 40, "1x4", None, None), (1, 5000, "1x12", None, None),
])
def test_tiles_of_sizes(service, width, height, at_12, at_6, at_24):
    for limit, grid in ((1, "1x1"), (6, at_6), (12, at_12), (24, at_24)):
        if grid is None:
            continue  # the table has no entry
        columns, rows = map(int, grid.split("x"))
        tiles = columns * rows + (columns * rows > 1)
        found = service.get(f"/v1/estimate?width={width}&height={height}&max_num={limit}").json()["images"][0]
        assert (found["grid"], found["tiles"], found["tokens"]) == ([columns, rows], tiles, 256 * tiles), limit
        assert found["thumbnail"] == (tiles > 1)
        assert estimate(service, width=width, height=height, max_dynamic_patch=limit) == found


def test_degenerate_pictures_are_answered(service):  # I1
    for width, height, tiles in ((1, 1, 1), (1, 5000, 13), (3000, 200, 13)):
        usage = service.client().chat.completions.create(**chat([picture(width, height)], max_tokens=1)).usage
        assert usage.prompt_tokens_details.model_dump()["image_tokens"] == 256 * tiles


# I2: tiles of 1920x1080 for the fields of the part, as the service's defaults have it and as LMDeploy's do.
@pytest.mark.parametrize("fields, tiles, lmdeploy", [
    ({"detail": "low"}, 1, 3), ({"detail": "medium"}, 3, 9), ({"detail": "auto"}, 9, 9), ({}, 9, 9),
    ({"detail": "high"}, 9, 16), ({"detail": "original"}, 16, 16), ({"detail": "low", "max_dynamic_patch": 12}, 9, 9),
    ({"detail": "original", "max_dynamic_patch": 1}, 1, 1), ({"max_dynamic_patch": 6, "use_thumbnail": False}, 2, 2),
])
def test_detail(service, lmdeploy_service, fields, tiles, lmdeploy):
    part = picture(1920, 1080, **fields)
    for running, expected in ((service, tiles), (lmdeploy_service, lmdeploy)):
        assert estimate(running, width=1920, height=1080, **fields)["tiles"] == expected
        assert running.post("/v1/estimate", chat([part])).json()["images"][0]["tiles"] == expected


@pytest.fixture(scope="module")
def lmdeploy_service():
    with Service("--detail-map", "lmdeploy") as running:
        yield running


@pytest.mark.parametrize("field, value, code", [  # I2
    ("max_dynamic_patch", 0, "invalid_value"), ("max_dynamic_patch", 41, "invalid_value"),
    ("max_dynamic_patch", "6", "invalid_type"), ("max_dynamic_patch", 6.0, "invalid_type"),
    ("min_dynamic_patch", 13, "invalid_value"), ("detail", "best", "invalid_value"), ("use_thumbnail", 1, "invalid_type"),
])
def test_wrong_tiling(service, field, value, code):
    with pytest.raises(openai.BadRequestError) as error:
        service.client().chat.completions.create(**chat([words("x"), picture(9, 9, **{field: value})]))
    assert (error.value.code, error.value.param) == (code, f"messages[0].content[1].image_url.{field}")


def test_defaults_for_all_pictures(service):  # I2
    def tiles(part, **kwargs):
        return service.post("/v1/estimate", chat([part], mm_processor_kwargs=kwargs)).json()["images"][0]["tiles"]

    assert tiles(picture(1920, 1080), max_dynamic_patch=6) == 3
    assert tiles(picture(1920, 1080), dynamic_image_size=False) == 1
    assert tiles(picture(1920, 1080, detail="original"), max_dynamic_patch=6) == 16
    assert tiles(picture(1920, 1080, max_dynamic_patch=1), max_dynamic_patch=6) == 1


def pixels(service, part):
    """The bytes of all tiles that the model would see."""
    answer = service.post("/v1/estimate", {"images": [part], "return_tiles": True})
    assert answer.status == 200, answer.body
    tiles = [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) for url in answer.json()["tiles_png"]]
    assert all(tile.size == (448, 448) and tile.mode == "RGB" for tile in tiles)
    return b"".join(tile.tobytes() for tile in tiles)


@pytest.mark.parametrize("name", sorted(EXPECTED["images"]))
def test_tiles_are_the_references(service, name):  # I3
    found = pixels(service, medium(MEDIA / name, max_dynamic_patch=6))
    assert hashlib.sha256(found).hexdigest() == EXPECTED["images"][name]["at"]["6"]["sha256_u8"]


@pytest.mark.parametrize("kind, options", [  # I3
    ("BMP", {}), ("PNG", {"save_all": True}), ("WEBP", {"save_all": True, "lossless": True}),
    ("GIF", {"save_all": True}),
])
def test_first_frames_are_taken(service, tmp_path, kind, options):
    first, second = (Image.new("RGB", (60, 30), shade) for shade in ((200, 10, 60), (0, 255, 0)))
    first.paste((20, 120, 220), (0, 0, 25, 30))
    first.save(tmp_path / "plain.png")
    first.save(tmp_path / "moving", kind, **options, **({"append_images": [second]} if options else {}))
    assert pixels(service, medium(tmp_path / "moving")) == pixels(service, medium(tmp_path / "plain.png"))


FILE = png(90, 90) + b"\xff\xef\xbe"  # behind its end
DATA = base64.b64encode(FILE + bytes((1 - len(FILE)) % 3)).decode()  # of every kind of letter, with padding


# I4
@pytest.mark.parametrize("image_url, code", [
    ({"url": "data:image/jpeg;base64," + DATA}, None),
    ({"url": "data:image/png;base64," + DATA.rstrip("=")}, None),
    ({"url": "data:image/png;base64," + "\r\n".join(DATA[i:i + 60] for i in range(0, len(DATA), 60))}, None),
    ({"url": "data:image/png;base64," + DATA.replace("+", "-").replace("/", "_")}, "invalid_base64"),
    ({"url": "data:image/png;base64,"}, "invalid_base64"),
    ("data:image/png;base64," + DATA, None),
    ({"detail": "low"}, "missing_field"),
    ({"url": "ftp://example.org/a.png"}, "invalid_image_url"),
    ({"url": "/home/somebody/a.png"}, "invalid_image_url"),
    ({"url": DATA}, "invalid_image_url"),
])
def test_addresses(service, image_url, code):
    assert DATA.endswith("==") and {"+", "/"} & set(DATA)
    request = chat([words("x"), {"type": "image_url", "image_url": image_url}], max_tokens=1)
    if code is None:
        answer = service.client().chat.completions.create(**request)
        assert answer.usage.prompt_tokens_details.model_dump()["image_tokens"] == 256
        return
    with pytest.raises(openai.BadRequestError) as error:
        service.client().chat.completions.create(**request)
    assert (error.value.code, error.value.param) == (code, "messages[0].content[1].image_url.url")


def test_what_does_not_fit_is_reduced_when_asked(service):  # I5, E5
    client = service.client()
    request = chat([*[picture(640, 480, shade=40 * i) for i in range(5)], words("Compare.")], max_tokens=2)
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**request)
    assert error.value.code == "context_length_exceeded"
    assert "maximum context length is 8192 tokens" in error.value.message and "13, 13, 13, 13, 13" in error.value.message
    assert str(5 * 3328) in error.value.message
    answer = client.chat.completions.create(**request, extra_body={"image_fit": "reduce", "return_info": True})
    tiles = [image["tiles"] for image in answer.model_dump()["internvl"]["images"]]
    assert len(tiles) == 5 and len(set(tiles)) == 1 and 1 <= tiles[0] < 13
    assert answer.usage.total_tokens <= 8192
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**request, extra_body={"max_total_tiles": 3})
    assert error.value.code == "too_many_tiles" and "65" in error.value.message and "3" in error.value.message
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**request, extra_body={"max_total_tiles": 3, "image_fit": "reduce"})
    assert error.value.code == "too_many_tiles"  # five pictures have five tiles at least


# V1, V2: frames as in the golden file, also for bounds.
@pytest.mark.parametrize("clip", sorted(EXPECTED["clips"]))
def test_frames_are_the_references(service, clip):
    for case in EXPECTED["clips"][clip]["segments"]:
        fields = {"num_segments": case["num_segments"]}
        if case["bound"]:
            fields["bound"] = case["bound"]
            if case["bound"][0] >= case["bound"][1]:
                assert ask_video(service, clip, **fields).code == "invalid_value"  # the reference turns time round
                continue
        found = ask_video(service, clip, **fields)
        assert found["indices"] == case["indices"]
        assert found["tiles"] == len(case["indices"]) and found["tokens"] == 256 * found["tiles"]
        if case["bound"]:
            start, end = case["bound"]
            assert ask_video(service, clip, num_segments=case["num_segments"], start=start, end=end) == found


def ask_video(service, clip, **fields):
    """The estimate of a video; or the refusal."""
    answer = service.post("/v1/estimate", {"videos": [video(MEDIA / clip, **fields)]})
    return answer.json()["videos"][0] if answer.status == 200 else answer


def test_a_video_is_answered(service):  # V1
    clip = MEDIA / "clip_24fps.mp4"
    answer = service.client().chat.completions.create(
        **chat([words("What happens?"), video(clip, num_segments=8)], max_tokens=2), extra_body={"return_info": True})
    told = answer.model_dump()
    assert told["usage"]["prompt_tokens_details"]["image_tokens"] == 2048
    assert told["internvl"]["videos"][0]["indices"] == [3, 10, 18, 25, 33, 40, 47, 55]
    assert 0 < told["internvl"]["timings"]["resize"] < 5 and 0 < told["internvl"]["timings"]["decode"] < 5
    assert told["internvl"]["videos"][0]["frame_count"] == 60 and told["internvl"]["videos"][0]["fps"] == 24
    thirty_two = service.post("/v1/estimate", chat([video(clip, num_segments=32)])).json()
    assert not thirty_two["fits"] or thirty_two["image_tokens"] == 8192
    assert len(thirty_two["videos"][0]["indices"]) == 32
    by_default = service.post("/v1/estimate", chat([video(clip)], media_io_kwargs={"video": {"num_frames": 4}})).json()
    assert by_default["image_tokens"] == 1024


@pytest.mark.parametrize("fields, frames, refused", [  # V2, of a clip of 60 frames and 2.5 s
    ({"fps": 2}, 5, None), ({"fps": 2, "bound": [1, 2]}, 2, None), ({"fps": 0.1}, 1, None), ({"fps": 60}, 128, None),
    ({"bound": [0, 100]}, 8, None), ({}, 8, None), ({"fps": 2, "num_segments": 4}, 0, "fps"),
    ({"bound": [2, 2]}, 0, "bound"), ({"bound": [2, 1]}, 0, "bound"), ({"start": 2, "end": 1}, 0, "end"),
    ({"bound": [-1, 1]}, 0, "bound"), ({"bound": [1]}, 0, "bound"), ({"num_segments": 0}, 0, "num_segments"),
    ({"num_segments": 129}, 0, "num_segments"), ({"fps": 0}, 0, "fps"), ({"fps": 61}, 0, "fps"),
])
def test_which_frames(service, fields, frames, refused):
    found = ask_video(service, "clip_24fps.mp4", **fields)
    if refused:
        assert found.status == 400 and found.json()["error"]["param"].endswith(refused), found.body
    else:
        assert len(found["indices"]) == frames and found["indices"] == sorted(found["indices"])
        assert 0 <= found["indices"][0] and found["indices"][-1] < 60


def test_odd_videos(service, tmp_path):  # V3
    frames = [Image.new("RGB", (64, 48), (40 * i, 90, 200)) for i in range(5)]
    frames[0].save(tmp_path / "one.gif")
    frames[0].save(tmp_path / "uneven.gif", save_all=True, append_images=frames[1:], duration=[40, 400, 80, 1000, 40])
    whole = (MEDIA / "clip_24fps.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:-2000])
    (tmp_path / "broken.mp4").write_bytes(whole[:-2000] + bytes(2000))

    def ask(file, **fields):
        return service.post("/v1/chat/completions", chat([video(file, **fields), words("?")], max_tokens=1, return_info=True))

    one = ask(tmp_path / "one.gif", num_segments=8).json()
    assert one["internvl"]["videos"][0]["indices"] == [0] * 8
    uneven = ask(tmp_path / "uneven.gif", num_segments=4).json()
    assert uneven["usage"]["prompt_tokens_details"]["image_tokens"] == 1024
    sound = ask(MORE / "audio.mp4")
    assert (sound.status, sound.code) in ((400, "invalid_video"), (400, "unsupported_video_format"))
    for name in ("cut.mp4", "broken.mp4"):
        damaged = ask(tmp_path / name)
        assert damaged.status == 200 or (damaged.status, damaged.code) == (400, "invalid_video"), damaged.body


def test_only_equal_tiles_are_known(service):  # Q5
    def ask(limit):
        answer = service.client().chat.completions.create(
            **chat([medium(MEDIA / "seven_tiles.jpg", max_dynamic_patch=limit)], max_tokens=1),
            extra_body={"return_info": True, "cache_salt": "only equal tiles"}).model_dump()
        return answer["internvl"]["images"][0], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    first, _ = ask(12)
    again, cached = ask(12)
    assert again["tiles_cached"] == first["tiles"] or cached >= 256 * (first["tiles"] - 1)
    alone, cached = ask(1)  # the thumbnail, and nothing of the prefix
    assert alone["tiles"] == 1 and alone["tiles_cached"] == 1 and cached < 256
