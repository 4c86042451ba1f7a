"""`starter entry` and `starter team`: what an organizer decides, with its reason in the audit trail."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from starter.cli.common import RulesOption, StoreOption, err, out, store_url
from starter.contract.competition import load_competition
from starter.contract.errors import Code, usage_error
from starter.contract.names import normalized
from starter.contract.text import inline
from starter.report.terminal import print_line

if TYPE_CHECKING:
    from pathlib import Path

    from starter.organizer.audit.trail import TrailRow
    from starter.organizer.store.store import Store

entry_app = typer.Typer(
    help="Disqualify and reinstate entries, and show what became of one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
team_app = typer.Typer(help="Rename and merge teams.", no_args_is_help=True, rich_markup_mode=None)


def given_reason(text: str) -> str:
    """Refuse a reason that says nothing."""
    if not text.strip():
        raise typer.BadParameter("say why: the reason stays in the audit trail")
    return text.strip()


EntryName = Annotated[
    str, typer.Argument(metavar="TEAM/NAME", help="The entry, as the leaderboard names it.")
]
ReasonOption = Annotated[
    str, typer.Option(callback=given_reason, help="Why; it stays in the store's audit trail.")
]


@entry_app.command()
def disqualify(
    entry: EntryName, reason: ReasonOption, store: StoreOption = None, competition: RulesOption = None
) -> None:
    """Take an entry's place away; the board shows it with the reason."""
    with _opened(store, competition) as kept:
        team, name = _entry(kept, entry)
        kept.acts.disqualify(team, name, reason)
        _done(kept, f"{team}/{name} is disqualified: {reason}")


@entry_app.command()
def reinstate(
    entry: EntryName, reason: ReasonOption, store: StoreOption = None, competition: RulesOption = None
) -> None:
    """Take a disqualification back."""
    with _opened(store, competition) as kept:
        team, name = _entry(kept, entry)
        kept.acts.reinstate(team, name, reason)
        _done(kept, f"{team}/{name} is reinstated: {reason}")


@entry_app.command()
def history(entry: EntryName, store: StoreOption = None, competition: RulesOption = None) -> None:
    """Show what the audit trail says about an entry, the oldest first."""
    from starter.organizer.appeals.again import chosen

    with _opened(store, competition) as kept:
        _entry(kept, entry)
        submissions = {found.submission for found in chosen(kept, entry)}
        rows = sorted((row for of in submissions for row in kept.trail(of)), key=lambda row: row.id)
    for row in rows:
        print_line(out, _line(row))


@team_app.command()
def rename(
    team: Annotated[str, typer.Argument(help="What the team is called today.")],
    name: Annotated[str, typer.Argument(help="What it is called from now on.")],
    reason: ReasonOption,
    store: StoreOption = None,
    competition: RulesOption = None,
) -> None:
    """Give a team another name; entries that come under the old one are still its own."""
    with _opened(store, competition) as kept:
        old, new = kept.team(normalized(team)), normalized(name)
        count = kept.acts.rename(old, new, reason)
        _done(kept, f"team {old} is now {new}, with {count} entries: {reason}")


@team_app.command()
def merge(
    team: Annotated[str, typer.Argument(help="The team that ends.")],
    into: Annotated[str, typer.Argument(help="The team that gets its entries.")],
    reason: ReasonOption,
    store: StoreOption = None,
    competition: RulesOption = None,
) -> None:
    """Make a team's entries another team's; those that come under its name are so as well."""
    with _opened(store, competition) as kept:
        old, new = kept.team(normalized(team)), kept.team(normalized(into))
        count = kept.acts.merge(old, new, reason)
        _done(kept, f"{count} entries of team {old} are now {new}'s: {reason}")


def _opened(store: str | None, competition: "Path | None") -> "Store":
    from starter.organizer.store.store import Store

    return Store(store_url(store, load_competition(competition)))


def _entry(kept: "Store", text: str) -> tuple[str, str]:
    """Return the team of today and the name in TEAM/NAME.

    Raises:
        UsageError: U470, it is not of that form.
    """
    team, slash, name = normalized(text).rpartition("/")
    if not slash:
        raise usage_error(Code.NO_ENTRY, where=text, expected="TEAM/NAME", got="a name without a slash")
    return kept.team(team), name


def _done(kept: "Store", text: str) -> None:
    """Say what was done, and what to publish."""
    print_line(out, inline(text))
    number, head = kept.head()
    print_line(err, f"trail: row {number:,}, head sha256:{head}")


def _line(row: "TrailRow") -> str:
    """Return a row of the trail as a person reads it."""
    at = datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    said = row.content
    parts = [f"{row.id:>8,}  {at}  {row.kind:10}"]
    if entry := said.get("entry"):
        parts.append(f"{entry['team']}/{entry['name']}")
    if "was" in said:
        parts.append(f"was {'/'.join(said['was'][:2])}")
    if "status" in said:
        score = "" if said["score"] is None else f" score {said['score']:.4f}"
        parts.append(f"{said['status']}{score}")
    if said.get("reason"):
        parts.append(f"{said['reason']} ({said['by']})")
    return inline("  ".join(parts))
