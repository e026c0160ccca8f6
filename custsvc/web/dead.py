"""The page of dead letters: shows them with their reason, sends them again or discards them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from flask import Blueprint, g, redirect, render_template, request

from ..errors import Conflict, CustsvcError, NotFound, TemporaryError, TopicGone, Unusable
from ..http.problems import NO_KAFKA
from . import once, toast
from .access import needs, route, services
from .forms import action_of
from .one import number_of
from .words import plural

if TYPE_CHECKING:
    from ..copies.dead_letters import DeadLetter

_SHOWN: Final = 100
_AROUND: Final = dt.timedelta(minutes=5)
_PATH: Final = "/ui/dead-letters"


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, _PATH, index)
    route(blueprint, f"{_PATH}/change", change, "POST")


def index() -> Any:
    """The open dead letters, or with `state=all` all of them."""
    from ..copies.dead_letters import OPEN

    letters, problem = [], None
    try:
        with _box() as box:
            letters = box.all()[::-1]
    except CustsvcError as exc:
        problem = str(exc)
    everything = request.args.get("state") == "all"
    shown = letters if everything else [letter for letter in letters if letter.state in OPEN]
    return render_template(
        "mails/dead.html",
        letters=[(letter, _text(letter.value)) for letter in shown[:_SHOWN]],
        more=max(0, len(shown) - _SHOWN),
        everything=everything,
        settled=len(letters) - len(shown),
        open_states=OPEN,
        problem=problem,
        events_of=_events_of,
    )


def _events_of(letter: DeadLetter) -> str:
    """The address of the events of its customer if its key names one, else of those around it."""
    key = (letter.key or b"").decode("utf-8", "replace")
    if number_of(key) is not None:
        return f"/ui/events?customer={key}"
    around = {"from": letter.time - _AROUND, "until": letter.time + _AROUND}
    return "/ui/events?" + urlencode({name: f"{at:%Y-%m-%dT%H:%M:%S}" for name, at in around.items()})


@needs("write")
def change() -> Any:
    """Send the chosen records again to where they came from, or discard them."""
    action = action_of(("retry", "discard"))
    ids = [each for each in request.form.getlist("ids") if len(each) <= 200][:_SHOWN]
    if not ids:
        toast.put("Choose some records first.", kind="bad")
        return redirect(_PATH, 303)
    try:
        toast.put(once.answer(lambda: {"text": _changed(ids, action)})["text"])
    except (TopicGone, Unusable) as exc:
        toast.put(f"{exc}.", kind="bad")
    except (Conflict, NotFound):
        toast.put("Another user has handled them meanwhile. Look again.", kind="bad")
    return redirect(_PATH, 303)


def _changed(ids: list[str], action: str) -> str:
    """Send or discard the records; the message for the user."""
    from ..copies.pipeline import send_again

    with _box() as box:
        letters = [letter for letter in box.all() if letter.id in ids]
        if not letters:
            raise NotFound("these records are no longer there")
        if action == "discard":
            outcome = box.discard(letters, f"discarded by {g.principal.name}")
            said = f"Gave up {plural(len(outcome.done), 'record')}."
        else:
            outcome = send_again(services().settings, services().store, box, letters)
            said = f"Sent {plural(len(outcome.done) + len(outcome.there), 'record')} again."
        return f"{said} But {outcome.why_left}." if outcome.left else said


def _box() -> Any:
    # Imported here because Kafka's client is big and most processes never need it.
    from ..copies.dead_letters import DeadLetterBox

    if not services().settings.kafka:
        raise TemporaryError(NO_KAFKA, dependency="kafka")
    return DeadLetterBox(services().settings)


def _text(value: bytes | None, longest: int = 20_000) -> str:
    return (value or b"").decode("utf-8", "replace")[:longest]
