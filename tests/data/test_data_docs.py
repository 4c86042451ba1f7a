"""docs/data.md shows every option of `starter data`, and its examples run, against a local server."""

import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import drawn_image
from photo_server import SIZE, photograph, serving
from typer.testing import CliRunner

from starter.cli.app import app, load

DOCUMENT = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = load("data").commands


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_an_example(name: str) -> None:
    shown = {word for line in LINES if line.startswith(f"starter data {name} ") for word in shlex.split(line)}
    for option in COMMANDS[name].params:
        names = {*option.opts, *option.secondary_opts}
        if option.param_type_name == "option" and "--help" not in names:
            assert names & shown, f"starter data {name} {'/'.join(names)} is in no example of docs/data.md"
    known = {n for option in COMMANDS[name].params for n in (*option.opts, *option.secondary_opts)}
    assert {word for word in shown if word.startswith("--")} <= known


@pytest.mark.slow
def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins: twelve photographs with a box of each category; forty images in two folders."""
    monkeypatch.chdir(tmp_path)
    others = ("Battery", "Shoe", "Broken glass", "Corrugated carton", "Drink carton", "Foam cup")
    categories = (
        "Drink can", "Clear plastic bottle", "Plastic film", "Cigarette", "Unlabeled litter", *others,
    )  # fmt: skip
    with serving() as server:
        for number in range(12):
            data = server.files[f"/p{number}.jpg"] = photograph(number)
            server.files[f"/taco/{number}.jpg"] = data
            Path("photographs").mkdir(exist_ok=True)
            Path(f"photographs/{number}.jpg").write_bytes(data)
        coco = {
            "images": [
                {"id": n, "file_name": f"{n}.jpg", "width": SIZE[0], "height": SIZE[1],
                 "flickr_url": f"{server.url}/p{n}.jpg", "flickr_640_url": None}
                for n in range(12)
            ],
            "annotations": [
                {"id": 11 * n + c, "image_id": n, "category_id": c,
                 "bbox": [80 * (c % 3), 40 * (c // 3), 75, 38]}
                for n in range(12) for c in range(11)
            ],
            "categories": [{"id": i, "name": name} for i, name in enumerate(categories)],
        }  # fmt: skip
        Path("annotations.json").write_text(json.dumps(coco), encoding="utf-8")
        (mapping,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
        mapping = mapping.replace("skip = [", f"skip = [{', '.join(map(json.dumps, others))}, ")
        Path("mine.toml").write_text(mapping, encoding="utf-8")
        lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for number in range(40):
            path = Path("trashnet-150", ("glass", "metal")[number % 2], f"{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(drawn_image(number % 2, number))
            lists[("train", "train", "val", "test")[number // 2 % 4]].append(f"{path.name} {number % 2}\n")
        for name, lines in lists.items():
            Path(f"{name}.txt").write_text("".join(lines), encoding="utf-8")
        for line in LINES:
            words = shlex.split(line.replace("https://mirror.example", server.url))
            done = CliRunner().invoke(app, words[1:], catch_exceptions=False, standalone_mode=False)
            assert not done.return_value, f"{line}\n{done.output}"
        # Which ones there are: all but those that only download or look.
        made = {Path(p).parent.name for p in Path().glob("*/dataset.toml")}
    targets = {m[1] for m in re.finditer(r"--out (\w+)", "\n".join(LINES))} - {"later", "scenes"}
    assert made == targets
    assert Path("sheet.png").is_file()
    assert Path("page.html").is_file()
