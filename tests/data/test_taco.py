"""Downloading photographs from a real server that fails in every way, and cutting them."""

import csv
import io
import json
import math
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from photo_server import SIZE, PhotoServer, photograph, serving
from PIL import Image

from starter.contract.errors import UsageError
from starter.data.coco.annotations import CocoImage
from starter.data.coco.http_download import Fetcher, FetchError, FetchRules
from starter.data.coco.photographs import DownloadOptions, Photograph, download_photographs, report_path
from starter.data.dataset import open_dataset

TACO_6 = Path(str(files("starter.data.coco"))) / "mappings" / "taco-6.toml"
QUICK = FetchRules(tries=3, timeout=0.4, back_off=0.01, most_bytes=200_000)


@pytest.fixture
def server() -> Iterator[PhotoServer]:
    with serving() as running:
        for number in range(12):
            running.files[f"/p{number}.jpg"] = photograph(number)
        yield running


def entry(name: str, url: str | None, **fields: Any) -> CocoImage:
    return CocoImage(id=0, file_name=name, width=SIZE[0], height=SIZE[1], flickr_url=url, **fields)


@pytest.fixture
def one(server: PhotoServer, tmp_path: Path) -> Callable[..., Photograph]:
    """Download one photograph from a path of the server, quickly."""

    def download(path: str, name: str = "a/b.jpg", rules: FetchRules = QUICK, **fields: Any) -> Photograph:
        asked = entry(name, server.url + path if path.startswith("/") else path, **fields)
        (found,) = download_photographs([asked], tmp_path / "photos", DownloadOptions(rules=rules))
        assert found.is_here == (tmp_path / "photos" / name).is_file()
        return found

    return download


# One URL.


def test_a_photograph_is_saved_under_its_name_byte_for_byte(
    one: Any, server: PhotoServer, tmp_path: Path
) -> None:
    found = one("/p1.jpg")

    assert (found.status, found.bytes) == ("downloaded", len(server.files["/p1.jpg"]))
    assert (found.width, found.height) == SIZE
    assert (tmp_path / "photos" / "a" / "b.jpg").read_bytes() == server.files["/p1.jpg"]
    assert server.headers["User-Agent"].startswith("starter/")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451])
def test_what_is_gone_is_not_asked_for_again(one: Any, server: PhotoServer, code: int) -> None:
    found = one(f"/status/{code}/p1.jpg")
    assert (found.status, found.reason[:8]) == ("lost", f"HTTP {code}")
    assert server.asked.total() == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_fails_for_now_is_asked_for_again(one: Any, server: PhotoServer, code: int) -> None:
    assert one(f"/twice/{code}/p1.jpg").status == "downloaded"
    assert server.asked.total() == 3


def test_after_its_tries_it_is_left_for_another_run(one: Any, server: PhotoServer) -> None:
    found = one("/status/503/p1.jpg")
    assert (found.status, found.reason) == ("not yet", "HTTP 503 Service Unavailable")
    assert server.asked.total() == 3


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/stall/p1.jpg", "timed out"),
        ("/trickle/p1.jpg", "slower than 1024 bytes per second"),
        ("/cut-off/p1.jpg", "bytes arrived"),
        ("/unannounced/p1.jpg", "not a picture, or damaged"),
        ("/page/p1.jpg", "not a picture, or damaged (it looks like a web page)"),
    ],
)
def test_what_is_not_whole_gets_no_name(one: Any, server: PhotoServer, path: str, reason: str) -> None:
    found = one(path)
    assert found.status == "not yet"
    assert reason in found.reason
    assert server.asked[path] == 3


def test_redirects_are_followed_and_bounded(one: Any, server: PhotoServer) -> None:
    assert one("/redirect/redirect/p1.jpg").status == "downloaded"
    lost = one("/round/p1.jpg", "c.jpg")
    assert (lost.status, lost.reason) == ("lost", "more than 5 redirects")
    assert server.asked["/round/p1.jpg"] == 6


@pytest.mark.parametrize(
    "url",
    ["file:///etc/hostname", "ftp://127.0.0.1/x.jpg", "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
     "/away/p1.jpg", "p1.jpg", "http://", "http://[::1", ""],
)  # fmt: skip
def test_no_other_scheme_is_opened(one: Any, url: str) -> None:
    found = one(url)
    assert found.status == "lost"
    assert (
        found.reason in {"not an http or https URL", "the COCO file has no URL for it"}
        or url == "http://[::1"
    )


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/evil.jpg", "a/../../evil.jpg", "a\\b.jpg", "a\nb.jpg", "", ".partial/0",
     "./a.jpg"]
)  # fmt: skip
def test_no_name_leads_out_of_the_folder(server: PhotoServer, tmp_path: Path, name: str) -> None:
    asked = entry(name, server.url + "/p1.jpg")
    (found,) = download_photographs([asked], tmp_path / "photos", DownloadOptions(rules=QUICK))

    assert found.status == "lost"
    assert found.reason.startswith("its name cannot be used for a file")
    assert server.asked.total() == 0
    assert {path.name for path in tmp_path.rglob("*")} == {"photos", "photos.csv"}


@pytest.mark.parametrize(
    "names", [("x" * 300, "b.jpg"), ("a", "a/b.jpg")], ids=["too long", "file and folder"]
)
def test_a_name_that_cannot_be_made_is_told(
    server: PhotoServer, tmp_path: Path, names: tuple[str, ...]
) -> None:
    asked = [entry(name, server.url + "/p1.jpg") for name in names]
    found = download_photographs(asked, tmp_path / "photos", DownloadOptions(jobs=1, rules=QUICK))
    assert sorted(p.status for p in found) == ["downloaded", "lost"]


@pytest.mark.parametrize("path", ["/large.jpg", "/endless/p1.jpg"])
def test_what_is_too_large_is_refused(one: Any, server: PhotoServer, path: str) -> None:
    server.files["/large.jpg"] = bytes(300_000)
    found = one(path)
    assert (found.status, found.reason) == ("lost", "larger than 200,000 bytes")


def test_another_picture_is_refused(one: Any, server: PhotoServer) -> None:
    """Flickr answers with a picture that says "no longer available": 500 x 374."""
    server.files["/gone.png"] = photograph(1, size=(500, 374), kind="PNG")
    found = one("/gone.png")
    assert (found.status, found.reason) == ("lost", "a picture whose shape differs from the annotation")


def test_the_server_says_how_long_all_wait(server: PhotoServer, tmp_path: Path) -> None:
    asked = [
        entry("a.jpg", f"{server.url}/patience/1/p1.jpg"),
        entry("b.jpg", f"{server.url}/twice/503/p2.jpg"),
    ]
    found = download_photographs(asked, tmp_path / "photos", DownloadOptions(rules=QUICK))

    assert {p.status for p in found} == {"downloaded"}
    first, second = (at for path, at in server.at if path.startswith("/patience"))
    assert 0.9 < second - first < 2
    assert all(at < first + 0.2 or at > first + 0.9 for _, at in server.at)


def test_more_patience_than_we_have_is_a_failure(one: Any, server: PhotoServer) -> None:
    assert one("/patience/3600/p1.jpg").reason == "HTTP 429 Too Many Requests"
    assert server.asked.total() == 1


def test_waits_grow_with_every_try_and_differ(server: PhotoServer) -> None:
    """0.1 s and 0.2 s, up to half of each less; and the time of a request."""
    fetcher = Fetcher(FetchRules(tries=3, back_off=0.1))
    waits = []
    for number in range(3):
        with pytest.raises(FetchError, match="HTTP 500"):
            fetcher.fetch(f"{server.url}/status/500/{number}", bytes)
        at = [time for path, time in server.at if path.endswith(f"/{number}")]
        waits.append((at[1] - at[0], at[2] - at[1]))
    assert all(0.05 <= one < 0.25 and 0.1 <= other < 0.4 for one, other in waits)
    assert len({round(one, 3) for one, _ in waits}) > 1


def test_names_that_are_no_ascii_are_asked_for_and_saved(server: PhotoServer, tmp_path: Path) -> None:
    name = "묶음 1/금속 캔 🥫 #1?.jpg"
    server.files[f"/mirror/{name}"] = server.files["/p1.jpg"]
    options = DownloadOptions(base_url=f"{server.url}/mirror/", rules=QUICK)
    (found,) = download_photographs([entry(name, None)], tmp_path / "photos", options)
    assert found.status == "downloaded"
    assert (tmp_path / "photos" / name).is_file()


def test_without_an_annotated_size_any_picture_is_taken(server: PhotoServer, tmp_path: Path) -> None:
    asked = [CocoImage(id="a", file_name="a.jpg", flickr_url=f"{server.url}/p1.jpg")]
    (found,) = download_photographs(asked, tmp_path / "photos", DownloadOptions(rules=QUICK))
    assert (found.status, (found.width, found.height)) == ("downloaded", SIZE)


def test_a_picture_of_too_many_bits_is_lost_for_good(one: Any, server: PhotoServer) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((SIZE[1], SIZE[0]), 4000, np.uint16)).save(buffer, "PNG")
    server.files["/deep.png"] = buffer.getvalue()
    found = one("/deep.png")
    assert found.status == "lost"
    assert found.reason.startswith("no value above 4000 in a picture of 16 bits")
    assert server.asked.total() == 1


def test_a_copy_of_640_pixels_is_taken_where_there_is_one_and_the_original_else(
    server: PhotoServer, tmp_path: Path
) -> None:
    server.files["/small.jpg"] = photograph(1, size=(120, 80))
    small, gone = f"{server.url}/small.jpg", f"{server.url}/status/404/x"
    asked = [
        entry("a.jpg", f"{server.url}/p1.jpg", flickr_640_url=small),
        entry("b.jpg", f"{server.url}/p2.jpg", flickr_640_url=gone),
        entry("c.jpg", f"{server.url}/p3.jpg"),
        entry("d.jpg", gone, coco_url=f"{server.url}/p4.jpg"),
    ]
    found = download_photographs(asked, tmp_path / "photos", DownloadOptions(size="640", rules=QUICK))
    assert [(p.status, p.width) for p in found] == [("downloaded", width) for width in (120, 240, 240, 240)]


# Many, again, and after a kill.


def test_a_second_run_downloads_only_what_is_missing_or_damaged(server: PhotoServer, tmp_path: Path) -> None:
    asked = [entry(f"p{n}.jpg", f"{server.url}/p{n}.jpg") for n in range(12)]
    download_photographs(asked, tmp_path / "photos", DownloadOptions(rules=QUICK))
    assert server.asked.total() == 12
    (tmp_path / "photos" / "p3.jpg").unlink()
    half = (tmp_path / "photos" / "p5.jpg").read_bytes()[:2000]
    (tmp_path / "photos" / "p5.jpg").write_bytes(half)

    again = download_photographs(asked, tmp_path / "photos", DownloadOptions(rules=QUICK))

    assert Counter(p.status for p in again) == {"kept": 10, "downloaded": 2}
    assert server.asked["/p3.jpg"] == server.asked["/p5.jpg"] == 2
    download_photographs(asked, tmp_path / "photos", DownloadOptions(rules=QUICK))
    assert server.asked.total() == 14


def test_the_report_has_a_row_for_every_photograph(server: PhotoServer, tmp_path: Path) -> None:
    asked = [entry("금속.jpg", f"{server.url}/p1.jpg"), entry("gone.jpg", f"{server.url}/status/410/x")]
    download_photographs(asked, tmp_path / "photos", DownloadOptions(rules=QUICK))
    with report_path(tmp_path / "photos").open(encoding="utf-8", newline="") as file:
        rows = [(row["file_name"], row["status"], row["reason"]) for row in csv.DictReader(file)]
    assert rows == [("금속.jpg", "downloaded", ""), ("gone.jpg", "lost", "HTTP 410 Gone")]


def test_where_nothing_comes_any_more_it_stops(tmp_path: Path) -> None:
    """Port 9 of this machine answers nobody; 100 photographs with 3 tries each would be 300 connections."""
    asked = [entry(f"{n}.jpg", "http://127.0.0.1:9/x.jpg") for n in range(100)]
    found = download_photographs(asked, tmp_path / "photos", DownloadOptions(jobs=2, rules=QUICK))
    assert {p.status for p in found} == {"not yet"}
    assert sum(p.reason == "stopped" for p in found) >= 70


def test_two_runs_in_one_folder_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with (
        FileLock(tmp_path / "photos" / ".partial.lock"),
        pytest.raises(UsageError, match="another download is using"),
    ):
        download_photographs([], tmp_path / "photos", DownloadOptions())


# The command.


@pytest.fixture
def annotated(server: PhotoServer, tmp_path: Path) -> Path:
    """TACO in small: twelve photographs, a can and a bottle on each."""
    images = [
        {"id": n, "file_name": f"batch_1/{n:06}.JPG", "width": SIZE[0], "height": SIZE[1], "license": None,
         "flickr_url": f"{server.url}/p{n}.jpg", "flickr_640_url": None, "coco_url": None}
        for n in range(12)
    ]  # fmt: skip
    boxes = [
        {"id": 2 * n + c, "image_id": n, "category_id": c, "bbox": [20 + 100 * c, 30, 80, 100], "iscrowd": 0}
        for n in range(12)
        for c in (0, 1)
    ]
    categories = [{"id": 0, "name": "Drink can"}, {"id": 1, "name": "Clear plastic bottle"}]
    (tmp_path / "two.toml").write_text(
        '[classes]\nMetal = ["Drink can"]\nPlastic = ["Clear plastic bottle"]\n', encoding="utf-8"
    )
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return path


def starter(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "starter", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_one_command_leads_from_annotations_to_a_data_set(
    annotated: Path, server: PhotoServer, tmp_path: Path
) -> None:
    """Photograph 3 is gone for good, 4 is stored turned, 5 is half as large."""
    del server.files["/p3.jpg"]
    server.files["/p4.jpg"] = photograph(4, orientation=6)
    server.files["/p5.jpg"] = photograph(5, size=(120, 80))
    command = ("data", "taco", "--annotations", annotated, "--out", tmp_path / "taco", "--test-share", "0.5",
               "--mapping", tmp_path / "two.toml")  # fmt: skip
    run = starter(*command, cwd=tmp_path)

    assert run.returncode == 0, run.stderr
    assert "12 photographs: 11 downloaded" in run.stdout
    assert "1 lost: HTTP 404 Not Found" in run.stdout
    assert "1 pictures differ in size from their annotation: their boxes were scaled" in run.stdout
    assert "1 photograph is missing" in run.stdout
    dataset = open_dataset(tmp_path / "taco")
    sizes = Counter(dataset.images.open(image_id).size for image_id in dataset.images.ids())
    assert sizes == {(80, 100): 20, (40, 50): 2}
    server.asked.clear()

    again = starter(*command, cwd=tmp_path)

    assert again.returncode == 0
    assert "11 already there, 1 lost" in again.stdout
    assert "nothing to do" in again.stderr
    assert server.asked == {"/p3.jpg": 1}
    server.files["/p3.jpg"] = photograph(3)
    assert "U106" in starter(*command, cwd=tmp_path).stderr  # one more than it was made of


@pytest.mark.slow
def test_no_data_set_is_made_of_what_happened_to_come(annotated: Path, tmp_path: Path) -> None:
    text = annotated.read_text().replace("/p3.jpg", "/status/503/p3.jpg")
    annotated.write_text(text)
    command = ("data", "taco", "--annotations", annotated, "--out", tmp_path / "taco", "--tries", "1",
               "--mapping", tmp_path / "two.toml")  # fmt: skip
    refused = starter(*command, cwd=tmp_path)

    assert refused.returncode == 2
    assert "U206" in refused.stderr
    assert "1 of 12 are missing; another run may download 1" in refused.stderr
    assert not (tmp_path / "taco").exists()
    assert starter(*command, "--accept-losses", cwd=tmp_path).returncode == 0
    assert len(open_dataset(tmp_path / "taco").images.ids()) == 22


def test_a_killed_download_goes_on_and_repeats_nothing(
    annotated: Path, server: PhotoServer, tmp_path: Path
) -> None:
    server.delay = 0.2
    command = [
        "data",
        "taco",
        "--annotations",
        str(annotated),
        "--out",
        "taco",
        "--jobs",
        "2",
        "--mapping",
        "two.toml",
        "--test-share",
        "0.5",
    ]
    process = subprocess.Popen([sys.executable, "-m", "starter", *command], cwd=tmp_path)
    photos = tmp_path / "taco-photographs"
    deadline = time.monotonic() + 30
    while len(list(photos.rglob("*.JPG"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = {path.name: path.read_bytes() for path in photos.rglob("*.JPG")}
    assert 4 <= len(whole) < 12
    assert all(data == server.files[f"/p{int(name[:6])}.jpg"] for name, data in whole.items())
    in_flight = -1
    while in_flight != server.asked.total():  # the server still reads what the killed process has sent
        in_flight = server.asked.total()
        time.sleep(1)
    server.asked.clear()
    server.delay = 0

    run = starter(*command, cwd=tmp_path)

    assert run.returncode == 0, run.stderr
    assert server.asked == {f"/p{n}.jpg": 1 for n in range(12) if f"{n:06}.JPG" not in whole}
    assert f"{len(whole)} already there" in run.stdout
    assert sorted(path.name for path in photos.iterdir()) == ["batch_1"]


@pytest.mark.slow
def test_only_downloading_says_what_comes_next(annotated: Path, server: PhotoServer, tmp_path: Path) -> None:
    run = starter(
        "data", "taco", "--annotations", annotated, "--out", "taco", "--no-crop", "--photographs", "p q",
        "--base-url", f"{server.url}/redirect", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 2  # the mirror has no such files: all are lost, for good
    assert "12 lost: HTTP 404 Not Found" in run.stdout
    run = starter("data", "taco", "--annotations", annotated, "--out", "taco", "--no-crop", cwd=tmp_path)
    assert "next: starter data crops" in run.stderr
    assert not (tmp_path / "taco").exists()
    with Image.open(tmp_path / "taco-photographs" / "batch_1" / "000003.JPG") as picture:
        assert picture.size == SIZE


# The unofficial file: larger, and with boxes that are infinite.


def unofficial(server: PhotoServer, photographs: int, boxes: int, infinite: int) -> dict[str, Any]:
    """Make annotations in TACO's 60 categories, some boxes infinite, and serve pictures of 64 x 48."""
    mapping = tomllib.loads(TACO_6.read_text(encoding="utf-8"))
    names = [*mapping["skip"], *(name for group in mapping["classes"].values() for name in group)]
    noise = np.random.default_rng(0)
    for number in range(photographs):
        pixels = noise.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=30)
        server.files[f"/{number}.jpg"] = buffer.getvalue()
    annotations = [
        {"id": n, "image_id": n % photographs, "category_id": (n // photographs * 7 + n) % len(names),
         "bbox": [2 + n % 9, 3, 30.5, 28], "iscrowd": 0, "segmentation": [[2, 3, 32, 3, 32, 31]], "area": 840}
        for n in range(boxes)
    ]  # fmt: skip
    for entry in annotations[:: boxes // infinite][:infinite]:
        entry |= {"bbox": [math.inf, math.inf, -math.inf, -math.inf], "area": 0, "segmentation": [[]]}
    images = [
        {"id": n, "file_name": f"unofficial/{n}.jpg", "width": 64, "height": 48, "license": None,
         "flickr_url": f"{server.url}/{n}.jpg", "flickr_640_url": None, "coco_url": None}
        for n in range(photographs)
    ]  # fmt: skip
    categories = [{"id": i, "name": name, "supercategory": name} for i, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories, "scene_annotations": []}


@pytest.mark.parametrize(
    ("photographs", "boxes"),
    [(120, 420), pytest.param(3831, 8334, marks=pytest.mark.long)],
    ids=["small", "as large as published"],
)
def test_the_unofficial_file_is_cut_with_every_box_accounted_for(
    server: PhotoServer, tmp_path: Path, photographs: int, boxes: int
) -> None:
    """As published 3,831 photographs, 8,334 boxes, 15 of them infinite: 8,319 are cut or skipped."""
    coco = unofficial(server, photographs, boxes, infinite=15)
    (tmp_path / "annotations_unofficial.json").write_text(json.dumps(coco))  # Infinity, as Python writes it
    gone = [f"/{n}.jpg" for n in range(0, photographs, 50)]
    for path in gone:
        del server.files[path]
    words = ("data", "taco", "--annotations", "annotations_unofficial.json", "--out", "taco", "--jobs", "16")
    run = starter(*words, cwd=tmp_path)

    assert run.returncode == 0, run.stderr
    assert f"{photographs:,} photographs: {photographs - len(gone):,} downloaded" in run.stdout
    (total,) = (line for line in run.stdout.splitlines() if line.startswith("all "))
    counted = re.search(r"([\d,]+) boxes +([\d,]+) used  (.*)", total)
    assert counted is not None
    reasons = {reason: int(n) for n, reason in re.findall(r"(\d+) ([^,]+)", counted[3])}
    used = int(counted[2].replace(",", ""))
    assert int(counted[1].replace(",", "")) == boxes
    assert reasons.pop("box is not finite") == 15
    assert used + reasons.pop("photograph is missing") + reasons.pop("category is skipped") == boxes - 15
    assert reasons == {}
    assert len(open_dataset(tmp_path / "taco").images.ids()) == used
    with (tmp_path / "taco-report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["annotation"]]) == boxes - used
    assert run.stderr.count("skipped, box is not finite: annotation ") == 5
    assert "... and 10 more of this kind; all are in taco-report.csv" in run.stderr
    assert len((run.stdout + run.stderr).splitlines()) < 100
