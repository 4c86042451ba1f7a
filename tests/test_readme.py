"""Every command of the README is run, in order, as it stands there but for paths and lengths."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GOOD, drawn_image
from photo_server import SIZE, PhotoServer, photograph, serving

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(section: str) -> list[str]:
    """Return the `starter` commands of a section's code blocks."""
    text = README.split(f"## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("starter ")]


def run(line: str, folder: Path, **stand_ins: str | Path) -> str:
    """Run one command; words of the README stand for real paths and small numbers."""
    words = [str(stand_ins.get(word.replace(".", "_"), word)) for word in shlex.split(line)]
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_the_commands_for_participants(competition: Path) -> None:
    lines = commands("Your submission")
    printed = [run(line, competition, **{"60": "1"}) for line in lines]

    assert {line.split()[1] for line in lines} == {"init", "profile", "score", "train", "validate"}
    first_score = next(text for text in printed if "macro-F1" in text)
    assert "unranked" not in first_score  # the template scores as it is, with no edit


def taco(folder: Path, server: PhotoServer) -> Path:
    """Twelve photographs on a server, with a box of each class of `taco-6`, in TACO's format."""
    names = (
        "Drink can",
        "Corrugated carton",
        "Drink carton",
        "Clear plastic bottle",
        "Plastic film",
        "Foam cup",
    )
    server.files |= {f"/{number}.jpg": photograph(number) for number in range(12)}
    width, height = SIZE
    coco = {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "flickr_url": f"{server.url}/{n}.jpg",
             "width": width, "height": height}
            for n in range(12)
        ],
        "annotations": [
            {"id": 6 * n + c, "image_id": n, "category_id": c, "bbox": [80 * (c % 3), 80 * (c // 3), 75, 75]}
            for n in range(12)
            for c in range(6)
        ],
        "categories": [{"id": c, "name": name} for c, name in enumerate(names)],
    }  # fmt: skip
    (folder / "taco.json").write_text(json.dumps(coco), encoding="utf-8")
    return folder / "taco.json"


@pytest.mark.long
def test_the_commands_for_organizers(tmp_path: Path) -> None:
    for label, name in enumerate(("Metal", "Paper", "Plastic")):
        for i in range(12):
            path = tmp_path / "photographs" / name / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(drawn_image(label, 10 * label + i))
    (tmp_path / "competition.toml").write_text('name = "mine"\n', encoding="utf-8")
    for folder in ("baseline", "submissions/mine"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "plugin.py").write_text(GOOD, encoding="utf-8")
    lines = commands("Your competition")

    kinds = {tuple(line.split()[1:3]) for line in lines}
    assert {("data", name) for name in ("folder", "crops", "taco", "synth", "check", "show")} <= kinds
    scenes = tmp_path / "drawn"
    in_order = sorted(lines, key=lambda line: " synth " not in line)  # something to crop comes first
    for line in in_order:
        if " taco " in line:
            with serving() as server:
                stand_ins = {"TACO_json": taco(tmp_path, server), "DATA": "taco"}
                run(line, tmp_path, **stand_ins)
            continue
        if " crops " in line:
            stand_ins = {"COCO_json": scenes / "annotations.json", "DIR": scenes / "images", "DATA": "crops"}
        else:
            stand_ins = {
                "IMAGES": tmp_path / "photographs",
                "SCENES": scenes,
                "100": "40",
                "ENTRIES": tmp_path / "submissions",
            }
        run(line, tmp_path, **stand_ins)
    assert (tmp_path / "DATA" / "solution.csv").is_file()
    assert (tmp_path / "baseline" / "reference.json").is_file()
    assert (tmp_path / "SITE" / "index.html").is_file()
