"""Templates: NAME.txt, whose first line is the subject, and NAME.html where there is one.

A name that a template uses and nobody gave is an error, not an empty place. In HTML every value is escaped,
and the style sheet is written into the elements, as most mail programs know no other. What can be wrong with
a template is found when it is checked, not when a mail is made.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    select_autoescape,
)

from ..errors import ConfigurationError
from .text import one_line

SUBJECT_MAX: Final = 200
BUILT_IN: Final = Path(__file__).parent / "defaults"


@dataclass(frozen=True, slots=True)
class Content:
    """What a mail says: its subject in one line, its text, and the same in HTML or None."""

    subject: str
    text: str
    html: str | None


class BrokenTemplate(ConfigurationError):
    """A template cannot be used."""

    def __init__(self, file: str, line: int | None, problem: str) -> None:
        where = file if line is None else f"{file}:{line}"
        super().__init__(f"{where}: {problem}", fix=f"correct {file}")
        self.file = file
        self.line = line
        self.problem = problem


class Templates:
    """The templates of a folder, and behind them the built-in ones."""

    def __init__(self, folder: Path | None = None) -> None:
        loaders: list[BaseLoader] = [FileSystemLoader(folder)] if folder else []
        loaders.append(PackageLoader("custsvc.notify", "defaults/templates"))
        self._folder = folder
        self._environment = Environment(
            loader=ChoiceLoader(loaders),
            undefined=StrictUndefined,
            autoescape=select_autoescape(["html"], default=False),
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def render(self, name: str, values: Mapping[str, Any]) -> Content:
        """What a template makes of these values. Raises BrokenTemplate."""
        subject, _, body = self._text(f"{name}.txt", values).partition("\n")
        return Content(
            one_line(subject.strip(), SUBJECT_MAX), body.lstrip("\n"), self._html(f"{name}.html", values)
        )

    def _html(self, file: str, values: Mapping[str, Any]) -> str | None:
        import css_inline

        try:
            self._environment.get_template(file)
        except TemplateNotFound as exc:
            if exc.name == file:
                return None
            raise BrokenTemplate(self._path(file), None, f"there is no template {exc.name}") from exc
        except TemplateSyntaxError as exc:
            raise self._syntax(exc) from exc
        html = self._text(file, values)
        if "<style" not in html:
            return html
        try:
            return css_inline.inline(html, load_remote_stylesheets=False, keep_style_tags=False)
        except ValueError as exc:
            raise BrokenTemplate(self._path(file), None, f"its style sheet is broken: {exc}") from exc

    def _text(self, file: str, values: Mapping[str, Any]) -> str:
        try:
            return self._environment.get_template(file).render(values)
        except TemplateSyntaxError as exc:
            raise self._syntax(exc) from exc
        except TemplateNotFound as exc:
            raise BrokenTemplate(self._path(file), None, f"there is no template {exc.name}") from exc
        except (TemplateError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError) as exc:
            where, line = _place(exc)
            raise BrokenTemplate(where or self._path(file), line, str(exc)) from exc

    def _syntax(self, exc: TemplateSyntaxError) -> BrokenTemplate:
        return BrokenTemplate(
            exc.filename or self._path(exc.name or "?"), exc.lineno, exc.message or "is no template"
        )

    def _path(self, file: str) -> str:
        return str((self._folder or BUILT_IN / "templates") / file)


def _place(exc: BaseException) -> tuple[str | None, int | None]:
    """The template's file and line that an error came from: Jinja writes them into the traceback."""
    frames = [f for f in traceback.extract_tb(exc.__traceback__) if f.filename.endswith((".txt", ".html"))]
    return (frames[-1].filename, frames[-1].lineno) if frames else (None, None)
