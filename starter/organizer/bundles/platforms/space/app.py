"""The page of a competition: submit a zip, see the board.

This process receives files and serves pages. It opens no zip, and no code of a participant runs in it:
`starter batch` reads the entries in a process of its own (run.sh). A zip gets its name when all
of it is there.
"""

import asyncio
import hashlib
import hmac
import html
import os
import secrets
import time
from base64 import b64encode
from collections import defaultdict, deque
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from starter.contract.competition import load_competition
from starter.contract.names import entry_fault, normalized

PLACE = Path(os.environ.get("PLACE", "."))
ENTRIES, PUBLIC = PLACE / "entries", PLACE / "public"
MOST = int(os.environ.get("MOST_MB", "64")) * 2**20
MOST_TOTAL = int(os.environ.get("MOST_TOTAL_MB", "4096")) * 2**20
PER_HOUR = int(os.environ.get("MOST_PER_HOUR", "6"))
TOKENS = dict(line.split(maxsplit=1) for line in os.environ.get("TEAMS", "").splitlines() if line.strip())
SECONDS = 300
"""How long one zip may take to arrive."""

recent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=10 * PER_HOUR))
"""When each team, and all together (""), handed something in during the last hour."""

SCRIPT = """
const form = document.querySelector("form"), said = document.querySelector("output");
form.addEventListener("submit", async event => {
  event.preventDefault();
  const field = name => form.elements[name], file = field("file").files[0];
  said.textContent = "sending ...";
  const address = ["entries", field("team").value, file.name].map(encodeURIComponent).join("/");
  const headers = field("token") ? {Authorization: "Bearer " + field("token").value} : {};
  try {
    const answer = await fetch(address, {method: "PUT", body: file, headers});
    said.textContent = await answer.text();
  } catch { said.textContent = "The connection broke; hand it in again."; }
});
"""
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
form { display: flex; flex-wrap: wrap; gap: 1rem; align-items: end }
label { display: grid } output { display: block; min-height: 3em }
iframe { width: 100%; height: 60rem; border: 1px solid #8888 }
"""
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{name}</title><style>{style}</style><h1>{name}</h1>
<p>Pack your entry with <code>starter pack submissions/NAME</code>, and submit the zip.</p>
<form><label>Team <input name="team" required maxlength="64"></label>{token}
<label>Zip <input name="file" type="file" accept=".zip" required></label><button>Submit</button></form>
<output aria-live="polite"></output><h2>Board</h2>{board}<script>{script}</script></html>"""


def sha256(text: str) -> str:
    """Return the hash by which a policy allows a script or a style."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; script-src {sha256(SCRIPT)}; style-src {sha256(STYLE)}; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'"
)


async def page(_: Request) -> Response:
    """Show the form and the board."""
    token = '<label>Token <input name="token" type="password" required></label>' if TOKENS else ""
    has_board = (PUBLIC / "board" / "index.html").is_file()
    frame = '<p><a href="board/">On its own page</a></p><iframe src="board/" title="Board"></iframe>'
    board = frame if has_board else "<p>There is no result yet.</p>"
    name = html.escape(load_competition().name)
    text = PAGE.format(name=name, style=STYLE, token=token, board=board, script=SCRIPT)
    return HTMLResponse(text, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


async def receive(request: Request) -> Response:
    """Take one zip into the folder of its team."""
    team, file = (normalized(request.path_params[part]) for part in ("team", "file"))
    check(team, file, request.headers.get("Authorization", "").removeprefix("Bearer "))
    target = ENTRIES / team / file
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{secrets.token_hex(8)}")  # a hidden file is no entry
    try:
        async with asyncio.timeout(SECONDS):
            size = await written(request, partial)
        if target.exists():  # another one has arrived meanwhile
            raise HTTPException(409, f"{team} has an entry {target.stem} already.")
        partial.replace(target)
    except ClientDisconnect:
        raise HTTPException(400, "The connection broke.") from None
    except TimeoutError:
        raise HTTPException(408, f"The zip took longer than {SECONDS} s to arrive.") from None
    finally:
        partial.unlink(missing_ok=True)
    said = f"{team}/{target.stem}: {size:,} bytes have arrived. The board shows the result soon."
    return PlainTextResponse(said, 201)


def check(team: str, file: str, token: str) -> None:
    """Refuse a zip before it arrives. The kit's rule for names lets none lead out of its folder."""
    name = file.removesuffix(".zip")
    if name == file:
        raise HTTPException(400, "Submit a zip: starter pack submissions/NAME")
    for what, text in (("team", team), ("file", name)):
        if fault := entry_fault(text):
            raise HTTPException(400, f"The name of the {what} cannot be used: {fault}")
    if TOKENS and not hmac.compare_digest(TOKENS.get(team, "").encode(), token.encode() or b"\0"):
        raise HTTPException(403, "This is not the token of this team.")
    if (ENTRIES / team / file).exists():
        raise HTTPException(409, f"{team} has an entry {name} already: give this one another name.")
    if too_often(team):
        raise HTTPException(429, f"More than {PER_HOUR} zips in an hour: hand it in later.")
    if sum(path.stat().st_size for path in ENTRIES.glob("*/*.zip")) + MOST > MOST_TOTAL:
        raise HTTPException(507, "The disk of this page is full: tell the organizer.")


async def written(request: Request, partial: Path) -> int:
    """Write what arrives to a file, as long as it may be a zip; return its size in bytes."""
    size = 0
    with partial.open("xb") as target:
        async for chunk in request.stream():
            if size == 0 and chunk and not b"PK\3\4".startswith(chunk[:4]):
                raise HTTPException(415, "This is not a zip.")
            size += len(chunk)
            if size > MOST:
                raise HTTPException(413, f"The zip has more than {MOST // 2**20} MiB.")
            target.write(chunk)
    if size == 0:
        raise HTTPException(415, "The file is empty.")
    return size


def too_often(team: str) -> bool:
    """Say whether a team, or all together, may submit nothing more in this hour; if they may, count it."""
    now, limits = time.monotonic(), {team: PER_HOUR, "": 10 * PER_HOUR}
    for who, most in limits.items():
        lately = [then for then in recent.get(who, ()) if then > now - 3600]
        if len(lately) >= most:
            return True
    for who in limits:
        recent[who].append(now)
    return False


PUBLIC.mkdir(parents=True, exist_ok=True)
app = Starlette(
    routes=[
        Route("/", page),
        Route("/entries/{team}/{file}", receive, methods=["PUT"]),
        Mount("/", StaticFiles(directory=PUBLIC, html=True)),
    ]
)
