"""Fills a page's form from its markup and sends it, by HTML's rules, as a browser without JavaScript does."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset(("input",))


@dataclass
class Form:
    """The fields in their order, as they would be sent: text areas with CR LF, buttons not pressed."""

    action: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    def sent(self, **typed: str) -> dict[str, list[str]]:
        """The values by name, with what was typed into some fields."""
        return {name: [typed[name]] if name in typed else self.values(name) for name, _ in self.fields}

    def changed(self, name: str, value: str) -> list[tuple[str, str]]:
        """The fields, with another value in the first of this name."""
        at = next(place for place, (key, _) in enumerate(self.fields) if key == name)
        return [*self.fields[:at], (name, value), *self.fields[at + 1 :]]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self._inside = False
        self._hidden = 0  # template and noscript: the first holds nothing that is sent
        self._area: tuple[str, list[str]] | None = None
        self._select: tuple[str, list[tuple[str, bool]]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(found.get("action", "")))
            self._inside = True
        elif tag == "template":
            self._hidden += 1
        elif self._inside and not self._hidden and "disabled" not in found:
            self._control(tag, found)

    def _control(self, tag: str, found: dict[str, str]) -> None:
        name, kind = found.get("name", ""), found.get("type", "text")
        if tag == "input" and kind in ("checkbox", "radio"):
            if "checked" in found:
                self._add(name, found.get("value", "on"))
        elif tag == "input" and kind not in ("submit", "button", "file"):
            self._add(name, _sanitized(found.get("value", ""), kind))
        elif tag == "textarea":
            self._area = (name, [])
        elif tag == "select":
            self._select = (name, [])
        elif tag == "option" and self._select:
            self._select[1].append((found.get("value", ""), "selected" in found))

    def handle_data(self, data: str) -> None:
        if self._area:
            self._area[1].append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
        elif tag == "template":
            self._hidden -= 1
        elif tag == "textarea" and self._area:
            name, parts = self._area
            text = "".join(parts).replace("\r\n", "\n").replace("\r", "\n")
            self._add(name, text.removeprefix("\n").replace("\n", "\r\n"))
            self._area = None
        elif tag == "select" and self._select:
            name, options = self._select
            chosen = [value for value, selected in options if selected]
            self._add(name, chosen[-1] if chosen else options[0][0])
            self._select = None

    def _add(self, name: str, value: str) -> None:
        if name:
            self.forms[-1].fields.append((name, value))


def _sanitized(value: str, kind: str) -> str:
    """HTML's value sanitization: a line of text holds no line breaks, an address no spaces around it."""
    if kind == "hidden":
        # When sent, every line break becomes CR LF.
        return value.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    line = value.replace("\r", "").replace("\n", "")
    return line.strip(" \t\n\f\r") if kind == "email" else line


def form_of(page: str, action: str | None = None) -> Form:
    """The form of a page with this action, or the one without."""
    reader = _Reader()
    # A page's own line ends are made one before it is read; those of character references stay.
    reader.feed(page.replace("\r\n", "\n").replace("\r", "\n"))
    return next(form for form in reader.forms if form.action == (action or ""))
