"""``fleetwatch dlq list|show|redrive``: the dead-letter topic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fleetwatch.records import DeadLetter
    from producers.dead_letters import Filter

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only this reason; may be given again.")]
Stages = Annotated[list[str] | None, typer.Option("--stage", help="Only this stage; may be given again.")]
Topic = Annotated[str | None, typer.Option(help="Only events of this topic.")]
Key = Annotated[str | None, typer.Option(help="Only events with this key (device).")]
Since = Annotated[str | None, typer.Option(help="Only events since a time in ISO 8601.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many, the oldest first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Register the command group."""
    group = typer.Typer(help="Events that were refused: look at them, and send them again.", no_args_is_help=True)
    group.command("list")(list_)
    group.command("show")(show)
    group.command("redrive")(redrive)
    app.add_typer(group, name="dlq")


def list_(
    reasons: Reasons = None,
    stages: Stages = None,
    topic: Topic = None,
    key: Key = None,
    since: Since = None,
    limit: Limit = 100,
    as_json: AsJson = False,
) -> None:
    """List dead letters, how many there are by reason, and where the refused events stand."""
    from collections import Counter

    letters = _letters(_filter(reasons, stages, topic, key, since))
    if as_json:
        for letter in letters[:limit]:
            typer.echo(json.dumps(_plain(letter)))
        return
    for letter in letters[:limit]:
        facts = _plain(letter)
        typer.echo(f"{facts['broker_time']}  {facts['position']:36} {facts['reason']:15} {facts['detail']}")
    for (stage, reason), count in sorted(Counter((one.stage.value, one.reason.value) for one in letters).items()):
        typer.echo(f"{stage} {reason}: {count}")
    if len(letters) > limit:
        typer.echo(f"{limit} of {len(letters)} are listed: --limit gives more")


def show(
    position: Annotated[str, typer.Argument(help="Position of the event, such as fleet.readings/0/1234.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with the event's bytes, and whether the event is still in its topic."""
    from fleetwatch.errors import EnvironmentProblemError
    from producers import dead_letters

    wanted = dead_letters.parse_position(position)
    settings = _settings()
    found = [one for one in _letters(dead_letters.Filter()) if dead_letters.position_of(one) == wanted]
    if not found:
        raise EnvironmentProblemError(f"there is no dead letter of {position}")
    message = dead_letters.original(settings, wanted)
    for letter in found:
        facts = _plain(letter) | {
            "key": None if letter.raw_key is None else letter.raw_key.decode(errors="backslashreplace"),
            "value_length": letter.value_length,
            "value_sha256": letter.value_sha256,
            "value_hex": None if letter.raw_value is None else letter.raw_value.hex(),
            "is_in_its_topic": message is not None,
            "sent_again": None if message is None else dead_letters.attempts_of(message.headers()),
        }
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            for name, value in facts.items():
                typer.echo(f"{name:16} {value}")


def redrive(
    reasons: Reasons = None,
    stages: Stages = None,
    topic: Topic = None,
    key: Key = None,
    since: Since = None,
    limit: Limit = 1000,
    attempts: Annotated[int, typer.Option(min=1, help="Never send an event again more often than this.")] = 1,
    blind: Annotated[
        bool, typer.Option("--blind", help="Also events that are gone from their topic, from what the letter keeps.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send refused events to their topics again, after what refused them was mended. Exit code 1: some failed."""
    from producers.dead_letters import redrive as send

    letters = _letters(_filter(reasons, stages, topic, key, since))[:limit]
    done = send(_settings(), letters, most_attempts=attempts, blind=blind, dry_run=dry_run)
    facts = {
        "dry_run": dry_run,
        "sent": len(done.sent),
        "skipped": {why: len(some) for why, some in done.skipped.items()},
        "failed": len(done.failed),
    }
    if as_json:
        typer.echo(json.dumps({"command": "redrive"} | facts))
    else:
        typer.echo(f"{'would send' if dry_run else 'sent'} {len(done.sent)} of {len(letters)}")
        for why, some in done.skipped.items():
            typer.echo(f"skipped {len(some)}: {why}")
        if done.failed:
            typer.echo(f"failed {len(done.failed)}: the broker did not take them", err=True)
    if done.failed:
        raise typer.Exit(1)


def _settings() -> Any:
    from fleetwatch.logs import configure_logs
    from fleetwatch.settings import load_settings

    settings = load_settings()
    configure_logs(level=settings.log_level)
    return settings


def _letters(chosen: Filter) -> list[DeadLetter]:
    from producers.dead_letters import read_letters

    return read_letters(_settings(), chosen)


def _filter(
    reasons: list[str] | None, stages: list[str] | None, topic: str | None, key: str | None, since: str | None
) -> Filter:
    from datetime import UTC, datetime

    from fleetwatch.errors import EnvironmentProblemError
    from fleetwatch.records import Reason, Stage
    from producers.dead_letters import Filter

    def members(kind: Any, names: list[str] | None, option: str) -> frozenset[Any]:
        known = {member.value: member for member in kind}
        for name in names or []:
            if name.upper() not in known:
                raise EnvironmentProblemError(f"{option} {name}: there are {', '.join(known)}")
        return frozenset(known[name.upper()] for name in names or [])

    time = None
    if since is not None:
        try:
            time = datetime.fromisoformat(since)
        except ValueError:
            raise EnvironmentProblemError(f"--since {since}: not a time such as 2026-01-31T12:00:00Z") from None
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return Filter(
        reasons=members(Reason, reasons, "--reason"),
        stages=members(Stage, stages, "--stage"),
        topic=topic,
        key=None if key is None else key.encode(),
        since=time,
    )


def _plain(letter: DeadLetter) -> dict[str, Any]:
    return {
        "position": f"{letter.topic}/{letter.partition}/{letter.offset}",
        "broker_time": letter.broker_time.isoformat(timespec="milliseconds"),
        "stage": letter.stage.value,
        "reason": letter.reason.value,
        "detail": letter.detail,
    }
