"""Mail templates: NAME.txt, whose first line is the subject, and NAME.html where there is one.

A name that a template uses and nobody gave is an error, not an empty place. In HTML every value is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import (
    Environment,
    PackageLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    select_autoescape,
)

from ..errors import ConfigurationError

_SUBJECT_MAX = 200


@dataclass(frozen=True, slots=True)
class Content:
    """What a mail says: its subject in one line, its text, and the same in HTML or None."""

    subject: str
    text: str
    html: str | None


@cache
def environment() -> Environment:
    """The environment of the package's own templates."""
    return Environment(
        loader=PackageLoader("custsvc.notify"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(["html"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(name: str, values: Mapping[str, Any]) -> Content:
    """The mail that a template makes of these values. Raises ConfigurationError for a broken template."""
    try:
        text = environment().get_template(f"{name}.txt").render(values)
        html = _html(name, values)
    except TemplateError as exc:
        raise ConfigurationError(
            f"the mail template {name} is broken: {type(exc).__name__}: {exc}", fix=f"correct {name}"
        ) from exc
    subject, _, body = text.partition("\n")
    return Content(subject.strip()[:_SUBJECT_MAX], body.lstrip("\n"), html)


def _html(name: str, values: Mapping[str, Any]) -> str | None:
    try:
        template = environment().get_template(f"{name}.html")
    except TemplateNotFound:
        return None
    return template.render(values)
