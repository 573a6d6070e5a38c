from __future__ import annotations

import base64
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from io import BytesIO

import httpx
import pytest
from openai import APIStatusError, OpenAI
from PIL import Image

from omnirt_lab.journal import JobRecord, JobWriter
from omnirt_lab.records import JobCancelledData
from tests.server.serving import Serving, running_server
from tests.server.working import draw, fail, png, start, stop, working

GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"


@pytest.fixture
def openai(server: Serving) -> Iterator[OpenAI]:
    """The official client, told of nothing but the server's address and key."""
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.token) as client:
        yield client


def latest(server: Serving) -> JobRecord:
    return server.journal.list_jobs(limit=1)[0]


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content))


def fetched(server: Serving, url: str | None) -> Image.Image:
    assert url is not None
    response = server.client.get(url)
    assert response.headers["content-type"] == "image/png"
    return opened(response.content)


def test_the_official_client_gets_addresses_of_pictures_that_this_server_has(server: Serving, openai: OpenAI):
    with working(server, draw):
        answer = openai.images.generate(prompt="a red circle", n=2, size="64x32")

    assert [fetched(server, picture.url).size for picture in answer.data or ()] == [(64, 32)] * 2
    assert len({picture.url for picture in answer.data or ()}) == 2
    assert all((picture.url or "").startswith(f"{server.url}/v1/artifacts/") for picture in answer.data or ())
    assert answer.size == "64x32"
    assert answer.created * 1000 <= (latest(server).ended_at_ms or 0) < answer.created * 1000 + 1000


def test_the_official_client_gets_the_bytes_of_pictures(server: Serving, openai: OpenAI):
    with working(server, draw):
        answer = openai.images.generate(prompt="a red circle", n=2, response_format="b64_json")

    pictures = [base64.b64decode(picture.b64_json or "") for picture in answer.data or ()]
    artifacts = server.journal.get_report(latest(server).run_id).artifacts
    assert pictures == [server.journal.artifacts.read(artifact.sha256) for artifact in artifacts]
    assert all(picture.url is None for picture in answer.data or ())


def test_seed_steps_guidance_and_negative_prompt_travel_as_extra_fields(server: Serving, openai: OpenAI):
    extra = {"seed": 7, "steps": 3, "guidance_scale": 2.5, "negative_prompt": "blue"}
    with working(server, draw):
        openai.images.generate(prompt="a red circle", model="tiny-shapes", n=2, extra_body=extra)

    request = latest(server).request
    assert (request.task, request.model, request.inputs.prompt) == ("text2image", "tiny-shapes", "a red circle")
    config = request.config
    assert (config.seed, config.steps, config.guidance_scale, config.num_images) == (7, 3, 2.5, 2)
    assert (config.width, config.height, request.inputs.negative_prompt) == (None, None, "blue")


def test_fields_that_promise_nothing_here_are_taken(server: Serving, openai: OpenAI):
    with working(server, draw):
        answer = openai.images.generate(
            prompt="a red circle",
            size="auto",
            quality="auto",
            background="opaque",
            moderation="low",
            output_format="png",
            output_compression=100,
            user="somebody",
            stream=False,
            partial_images=0,
        )

    assert len(answer.data or ()) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("n", 11),
        ("size", "65x64"),
        ("size", "64"),
        ("size", "0x64"),
        ("size", "9000x9000"),
        ("response_format", "file"),
        ("output_format", "jpeg"),
        ("output_compression", 50),
        ("background", "transparent"),
        ("quality", "hd"),
        ("style", "vivid"),
        ("stream", True),
        ("partial_images", 2),
        ("seed", -1),
        ("steps", 0),
        ("prompt", ""),
        ("prompt", None),
        ("prompt", "x" * 20_001),
        ("colour", "red"),
    ],
)
def test_what_would_be_a_lie_is_refused_by_the_fields_name_and_nothing_is_queued(
    server: Serving, field: str, value: object
):
    before = server.journal.list_jobs(limit=1)

    response = server.client.post(GENERATIONS, json={"prompt": "a red circle", field: value})

    error = response.json()["error"]
    assert response.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert (field if field != "size" else "width") in error["message"] or field in error["message"]
    assert error["hint"]
    assert server.journal.list_jobs(limit=1) == before


def test_a_model_that_is_not_served_is_404_in_openais_shape(openai: OpenAI):
    with pytest.raises(APIStatusError) as refused:
        openai.images.generate(prompt="a red circle", model="dall-e-3")

    assert refused.value.status_code == 404
    assert refused.value.code == "model_not_allowed"


FAILURES = [
    ("UnknownOptionError", 400, "unknown_option"),
    ("UnknownModelError", 404, "unknown_model"),
    ("ModelLoadError", 422, "model_load_failed"),
    ("PipelineError", 422, "pipeline_failed"),
    ("RuntimeError", 422, "pipeline_failed"),
]


@pytest.mark.parametrize("route", [GENERATIONS, "/v1/generate"])
@pytest.mark.parametrize(("kind", "status", "code"), FAILURES)
def test_a_job_that_fails_is_an_error_of_its_kind_that_names_the_job(
    server: Serving, route: str, kind: str, status: int, code: str
):
    body = {"prompt": "x"} if route == GENERATIONS else {"inputs": {"prompt": "x"}}
    with working(server, fail(kind, "it broke", "Mend it.")):
        response = server.client.post(route, json=body)

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["hint"]) == (status, code, "Mend it.")
    assert "it broke" in error["message"]
    assert response.headers["X-Job-Id"] == latest(server).job_id
    assert server.client.get(response.headers["Location"]).json()["state"] == "failed"


@pytest.mark.parametrize("route", [GENERATIONS, "/v1/generate"])
def test_a_cancelled_job_is_409_one_whose_time_was_over_504_and_one_whose_worker_died_502(server: Serving, route: str):
    body = {"prompt": "x"} if route == GENERATIONS else {"inputs": {"prompt": "x"}}

    def cancel(writer: JobWriter) -> None:
        server.journal.request_cancel(writer.job.job_id)
        stop(writer)

    def end_late(writer: JobWriter) -> None:
        start(writer)
        writer.finish(JobCancelledData(reason="timeout"))

    with working(server, cancel):
        cancelled = server.client.post(route, json=body)
    with working(server, end_late):
        late = server.client.post(route, json=body)
    answers: list[httpx.Response] = []
    lost = threading.Thread(target=lambda: answers.append(server.client.post(route, json=body)))
    begun = threading.Event()

    def begin(writer: JobWriter) -> None:
        start(writer)
        begun.set()

    with working(server, begin):  # it leaves the job as it is, and goes
        lost.start()
        assert begun.wait(60)
    lost.join()

    assert (cancelled.status_code, cancelled.json()["error"]["code"]) == (409, "job_cancelled")
    assert (late.status_code, late.json()["error"]["code"]) == (504, "job_timeout")
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (502, "job_lost")
    assert answers[0].headers["X-Job-Id"] == latest(server).job_id


def test_the_official_client_does_not_make_a_second_job_of_one_that_was_cancelled(server: Serving, openai: OpenAI):
    made: list[str] = []

    def cancel(writer: JobWriter) -> None:
        made.append(writer.job.job_id)
        server.journal.request_cancel(writer.job.job_id)
        stop(writer)

    with working(server, cancel), pytest.raises(APIStatusError):
        openai.images.generate(prompt="x")

    assert len(made) == 1


def test_a_client_that_leaves_leaves_its_job_and_nothing_in_the_server(server: Serving):
    logged = len(server.log)
    begun, gone = threading.Event(), threading.Event()

    def work(writer: JobWriter) -> None:
        begun.set()
        assert gone.wait(60)
        draw(writer)

    with working(server, work):
        with posted(server, GENERATIONS, b'{"prompt": "gone"}'):
            assert begun.wait(60)
        gone.set()
        job = latest(server)
        server.client.get(f"/v1/jobs/{job.job_id}/events")

    assert server.journal.get_job(job.job_id).state == "succeeded"
    assert server.client.get("/healthz").status_code == 200
    assert "Traceback" not in server.log[logged:]


def posted(server: Serving, path: str, body: bytes) -> socket.socket:
    """A connection on which a request was sent, and nothing read."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: Bearer {server.token}",
        f"Content-Length: {len(body)}",
    )
    connection = socket.create_connection((host, int(port)))
    connection.sendall("\r\n".join((*lines, "", "")).encode() + body)
    return connection


def test_addresses_have_the_base_url_that_the_client_used(tmp_path):
    with (
        running_server(tmp_path / "state", tmp_path, "--OmniRTApp.runners=0", base_url="/user/ada/") as server,
        working(server, draw),
    ):
        url = server.client.post(GENERATIONS, json={"prompt": "x"}).json()["data"][0]["url"]

        assert url.startswith(f"{server.url}/v1/artifacts/")
        assert fetched(server, url).size == (64, 64)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, format=kind, **options)
    return file.getvalue()


def input_picture(server: Serving, name: str) -> Image.Image:
    sha256 = getattr(latest(server).request.inputs, name)
    return opened(server.journal.artifacts.read(sha256))


def test_the_official_client_edits_a_picture(server: Serving, openai: OpenAI):
    with working(server, draw):
        answer = openai.images.edit(image=png("green"), prompt="make it red", n=2, extra_body={"strength": 0.5})

    request = latest(server).request
    assert (request.task, request.inputs.prompt, request.config.num_images) == ("image2image", "make it red", 2)
    assert (request.config.width, request.config.strength) == (None, 0.5)
    assert request.inputs.mask is None
    assert input_picture(server, "image").getpixel((0, 0)) == (0, 128, 0)
    assert len(answer.data or ()) == 2


def test_where_openais_mask_is_transparent_the_requests_mask_is_white(server: Serving, openai: OpenAI):
    mask = Image.new("RGBA", (64, 48), "black")
    mask.paste((0, 0, 0, 0), (0, 0, 32, 48))
    mask.putpixel((40, 0), (0, 0, 0, 1))  # almost transparent is not transparent
    with working(server, draw):
        openai.images.edit(image=png(size=(64, 48)), mask=encoded(mask), prompt="a hole", response_format="b64_json")

    request = latest(server).request
    assert (request.task, request.config.width, request.config.height) == ("inpaint", 64, 48)
    stored = input_picture(server, "mask")
    assert stored.mode == "L"
    assert [stored.getpixel((x, 0)) for x in (0, 31, 32, 40, 63)] == [255, 255, 0, 0, 0]


def test_a_picture_is_brought_to_the_size_asked_for_or_to_one_that_a_vae_can_hold(server: Serving, openai: OpenAI):
    with working(server, draw):
        openai.images.edit(image=png(size=(100, 75)), prompt="x", size="128x64")
        asked = input_picture(server, "image").size
        openai.images.edit(image=png(size=(100, 75)), prompt="x")
        own = input_picture(server, "image").size

    assert (asked, own) == ((128, 64), (96, 72))


def rotated_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    return encoded(Image.new("RGB", (64, 32), "red"), "JPEG", exif=exif)


def transparent() -> bytes:
    return encoded(Image.new("RGBA", (64, 32), (255, 0, 0, 0)))


@pytest.mark.parametrize(
    ("content", "size", "colour"),
    [
        (rotated_jpeg(), (32, 64), (254, 0, 0)),
        (transparent(), (64, 32), (255, 255, 255)),
        (encoded(Image.new("RGB", (64, 32), "blue"), "WEBP", lossless=True), (64, 32), (0, 0, 255)),
        (encoded(Image.new("P", (64, 32), 0), "PNG", transparency=0), (64, 32), (255, 255, 255)),
        (encoded(Image.new("CMYK", (64, 32), (0, 255, 255, 0)), "JPEG"), (64, 32), (254, 0, 0)),
        (encoded(Image.new("L", (64, 32), 7)), (64, 32), (7, 7, 7)),
    ],
    ids=["turned by its EXIF", "transparent", "WebP", "palette", "CMYK", "grey"],
)
def test_pictures_of_every_sort_are_stored_upright_in_rgb(
    server: Serving, content: bytes, size: tuple[int, int], colour: tuple[int, int, int]
):
    with working(server, draw):
        response = server.client.post(EDITS, data={"prompt": "x"}, files={"image": content})

    assert response.status_code == 200, response.text
    stored = input_picture(server, "image")
    assert (stored.format, stored.mode, stored.size) == ("PNG", "RGB", size)
    assert all(abs(a - b) <= 2 for a, b in zip(stored.getpixel((0, 0)), colour, strict=True))


def test_nothing_of_an_upload_but_its_pixels_is_stored(server: Serving):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("where", "my address")
    exif = Image.Exif()
    exif[0x010E] = "my name"
    content = encoded(Image.new("RGB", (64, 64)), pnginfo=info, exif=exif, icc_profile=b"my profile")
    with working(server, draw):
        server.client.post(EDITS, data={"prompt": "x"}, files={"image": ("../../etc/passwd", content)})

    stored = server.journal.artifacts.read(latest(server).request.inputs.image or "")
    assert not any(word in stored for word in (b"my", b"iCCP", b"eXIf", b"tEXt"))


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes, its header right and its pixels missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read"),
        (b"hello", "cannot be read"),
        (bomb(), "cannot be read"),
        (encoded(Image.new("1", (5000, 5000))), "at most 16,777,216"),
        (encoded(Image.new("1", (9000, 1))), "8,192 a side"),
        (png()[:80], "cannot be read"),
        (png()[:60] + b"\0" + png()[61:], "cannot be read"),
        (encoded(Image.new("RGB", (64, 64)), "GIF"), "cannot be read"),
        (encoded(Image.new("RGB", (64, 64)), "TIFF"), "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "cannot be read"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "cannot be read"),
    ],
    ids=["empty", "text", "bomb", "large", "long", "cut", "damaged", "GIF", "TIFF", "PostScript", "SVG"],
)
def test_an_upload_that_is_no_picture_or_too_large_is_refused_and_not_stored(
    server: Serving, content: bytes, says: str
):
    before = server.journal.list_jobs(limit=1), stored_files(server)

    response = server.client.post(EDITS, data={"prompt": "x"}, files={"image": ("image.png", content)})

    assert response.status_code == 400
    assert says in response.json()["error"]["message"]
    assert (server.journal.list_jobs(limit=1), stored_files(server)) == before


def stored_files(server: Serving) -> int:
    return sum(path.is_file() for path in (server.state_dir / "artifacts").rglob("*"))


@pytest.mark.parametrize(
    ("data", "files", "says"),
    [
        ({"prompt": "x"}, [], "`image` is missing"),
        ({"prompt": "x", "image": "/etc/passwd"}, [], "unknown field `image`"),
        ({}, [("image", png())], "prompt"),
        ({"prompt": "x"}, [("image[]", png()), ("image[]", png())], "one is taken"),
        ({"prompt": "x"}, [("image", png()), ("markup", png())], "'markup' is not taken"),
        ({"prompt": "x", "size": "60x60"}, [("image", png())], "width"),
        ({"prompt": "x", "size": "8192x8192"}, [("image", png())], "at most 16,777,216"),
        ({"prompt": "x", "n": "many"}, [("image", png())], "$.n"),
        ({"prompt": "x", "stream": "true"}, [("image", png())], "stream"),
        ({"prompt": "x"}, [("image", png()), ("mask", png())], "nowhere transparent"),
        ({"prompt": "x"}, [("image", png(size=(32, 32))), ("mask", transparent())], "64 x 32 pixels"),
    ],
)
def test_a_form_that_asks_for_what_cannot_be_is_refused(
    server: Serving, data: dict[str, str], files: list[tuple[str, bytes]], says: str
):
    texts = [(name, (None, text)) for name, text in data.items()]
    pictures = [(name, (f"{name}.png", content)) for name, content in files]

    response = server.client.post(EDITS, files=[*texts, *pictures])

    assert response.status_code == 400, response.text
    assert says in response.json()["error"]["message"]


def test_a_body_that_is_too_large_is_413(server: Serving):
    response = server.client.post(EDITS, data={"prompt": "x"}, files={"image": b"\0" * (17 * 2**20)})

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"
