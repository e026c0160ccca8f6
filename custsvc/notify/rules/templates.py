"""Templates: NAME.txt, whose first line is the subject, and an optional NAME.html.

Each file is read once, so that no mail is made from a file that somebody is just saving: an edit counts from
the next start. An undefined name in a template is an error, not an empty text. In HTML every value is
escaped, and the styles are inlined into the elements, because most mail programs support nothing else. Errors
in a template are found by a check at start, not when a mail is made.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    meta,
    nodes,
    select_autoescape,
)

from ...domain.text import one_line
from ...errors import ConfigurationError

SUBJECT_MAX: Final = 200
BUILT_IN: Final = Path(__file__).parent / "defaults"
# Names of files that are remembered, those that do not exist too: customers' data may make up any number.
_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a mail: its subject in one line, its text, and the same as HTML or None."""

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


class _ReadOnce(BaseLoader):
    """Gives the content that a file had when it was first asked for, also if it did not exist then."""

    def __init__(self, loader: BaseLoader) -> None:
        self._loader = loader
        self._read: dict[str, tuple[str, str | None] | None] = {}

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool]]:
        if template not in self._read:
            found = self._look(environment, template)
            if found is None and len(self._read) >= _REMEMBERED:
                raise TemplateNotFound(template)
            self._read[template] = found
        known = self._read[template]
        if known is None:
            raise TemplateNotFound(template)
        return *known, lambda: True

    def _look(self, environment: Environment, template: str) -> tuple[str, str | None] | None:
        try:
            source, file, _ = self._loader.get_source(environment, template)
        except TemplateNotFound:
            return None
        return source, file


class Templates:
    """The templates of a folder; the built-in ones are the fallback."""

    def __init__(self, folder: Path | None = None) -> None:
        loaders: list[BaseLoader] = [FileSystemLoader(folder, encoding="utf-8-sig")] if folder else []
        loaders.append(PackageLoader("custsvc.notify.rules", "defaults/templates"))
        self._folder = folder
        self._loader = _ReadOnce(ChoiceLoader(loaders))
        self._environment = Environment(
            loader=self._loader,
            undefined=StrictUndefined,
            autoescape=select_autoescape(["html"], default=False),
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def render(self, name: str, values: Mapping[str, Any]) -> Content:
        """Render a template with these values. Raises BrokenTemplate."""
        subject, _, body = self._text(f"{name}.txt", values).partition("\n")
        return Content(
            one_line(subject.strip(), SUBJECT_MAX), body.lstrip("\n"), self._html(f"{name}.html", values)
        )

    def check(self, name: str, known: Collection[str]) -> None:
        """Check all of a template, also parts that no sample reaches: raises BrokenTemplate for an undefined
        name, filter, test or template."""
        trees = self._trees(f"{name}.txt") | self._trees(f"{name}.html", must_be=False)
        # A name that one template sets is defined in the templates that it builds on.
        known = {
            *known,
            *(name for tree in trees.values() for name in _set_in(tree)),
            *self._environment.globals,
        }
        for file, tree in trees.items():
            for line, problem in _unknown(tree, known, self._environment):
                raise BrokenTemplate(self._where(file), line, problem)

    def _trees(self, file: str, *, must_be: bool = True) -> dict[str, nodes.Template]:
        """A template, and all templates that it includes, extends or imports by name."""
        trees: dict[str, nodes.Template] = {}
        wanted = [_Reference(file, file, None, optional=not must_be)]
        for one in wanted:
            if one.name in trees:
                continue
            try:
                source, _, _ = self._loader.get_source(self._environment, one.name)
                trees[one.name] = self._environment.parse(source, one.name, self._where(one.name))
            except TemplateNotFound as exc:
                if one.optional:
                    continue
                problem = f"there is no template {one.name}"
                raise BrokenTemplate(self._where(one.by), one.line, problem) from exc
            except TemplateSyntaxError as exc:
                raise self._syntax(exc) from exc
            except (UnicodeDecodeError, OSError) as exc:
                raise BrokenTemplate(self._where(one.name), None, str(exc)) from exc
            wanted += _references(one.name, trees[one.name])
        return trees

    def _where(self, file: str) -> str:
        """The path of a template: in this folder if it exists there, else the built-in one."""
        own = self._folder / file if self._folder else None
        return str(own if own is not None and own.exists() else BUILT_IN / "templates" / file)

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
        except Exception as exc:  # whatever it is, as endless recursion: it must not hold up other mails
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


class _Reference(NamedTuple):
    """A template's reference to another one, and its line; `optional` if the other may be missing."""

    name: str
    by: str
    line: int | None
    optional: bool


def _references(file: str, tree: nodes.Template) -> Iterator[_Reference]:
    for node in tree.find_all((nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport)):
        named = getattr(node, "template", None)
        if isinstance(named, nodes.Const) and isinstance(named.value, str):
            yield _Reference(named.value, file, node.lineno, getattr(node, "ignore_missing", False))


def _set_in(tree: nodes.Template) -> Iterator[str]:
    """The names that a template assigns."""
    for name in tree.find_all(nodes.Name):
        if name.ctx != "load":
            yield name.name
    for macro in tree.find_all(nodes.Macro):
        yield macro.name


def _unknown(
    tree: nodes.Template, known: Collection[str], environment: Environment
) -> Iterator[tuple[int, str]]:
    """The lines at which a template uses something undefined."""
    for used in tree.find_all(nodes.Filter):
        if used.name not in environment.filters:
            yield used.lineno, f"there is no filter '{used.name}'"
    for test in tree.find_all(nodes.Test):
        if test.name not in environment.tests:
            yield test.lineno, f"there is no test '{test.name}'"
    # Last, because this fails on the problems that are reported above.
    strange = meta.find_undeclared_variables(tree) - set(known)
    for name in tree.find_all(nodes.Name):
        if name.ctx == "load" and name.name in strange:
            yield name.lineno, f"'{name.name}' is undefined"
