"""Before many changes: how many mails the rules would send for them, and whether they shall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .common import say, somebody_answers

if TYPE_CHECKING:
    from ..notify.rules.forecast import Forecast

MailsOption = Annotated[
    bool | None,
    typer.Option(
        "--mails/--no-mails",
        help="Whether the rules send mails for it. Default: ask on a terminal, else no mails.",
    ),
]


def decided(
    asked: bool | None, forecast: Forecast | None, *, default: bool = False, exact: bool = True
) -> bool:
    """Whether rules see the changes: as asked for, as a person answers, or by default. Says what follows."""
    if forecast is None:
        say("How many mails the rules would send for it is not known: they cannot be read here.")
        return default if asked is None else asked
    if not forecast.total:
        say("The rules send no mails for it.")
        return default if asked is None else asked
    by_rule = ", ".join(f"{name} {count:,}" for name, count in sorted(forecast.counts.items()) if count)
    say(f"The rules would send {'' if exact else 'about '}{forecast.total:,} mails for it ({by_rule}).")
    asks = asked is None and somebody_answers()
    if asks:
        wanted = typer.confirm("Send them?", default=default, err=True)
    else:
        wanted = default if asked is None else asked
    say(_what_follows(wanted, forecast.anyway, by_default=asked is None and not asks))
    return wanted


def _what_follows(wanted: bool, anyway: int, *, by_default: bool) -> str:
    if wanted:
        return "They are sent" + ("; --no-mails sends none." if by_default else ".")
    some = f"{anyway:,} of them are sent, by rules with `bulk = true`" if anyway else "None of them is sent"
    return some + ("; --mails sends them all." if by_default else ".")
