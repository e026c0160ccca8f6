"""How a command ends: an error in one line with its fix below, and the exit code; one style for all."""

from __future__ import annotations

import difflib
import errno
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import typer

from ..errors import ConfigurationError, CustsvcError, ExitCode
from ..runtime import printable

# What the parser of arguments raises; Typer has no public name for it.
_USAGE: Final[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


# How pydantic, by which Typer reads numbers, says that one is wrong.
_NUMBER: Final = re.compile(
    r"Input should be (?:a valid (?P<kind>integer|number)(?:,.*)?|"
    r"(?P<bound>greater than or equal to|less than or equal to|greater than|less than) (?P<limit>[-\d.]+))"
)
_BOUNDS: Final = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    "less than": "less than",
}


# How a disk, a quota or a device refuses what is written.
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# How a system refuses a place to this account, and what is no place for a file or a folder.
_NO_PLACE: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
_NO_HOME: Final = "Could not determine home directory"
_UTF_8: Final = "run it with PYTHONUTF8=1, or in a locale of UTF-8 as LC_ALL=C.UTF-8"
_PLACE_FIX: Final = "run it as an account that may use it, or name another place"
_ROOM_FIX: Final = "make room on that disk or raise its quota, and run it again"


def run(command: Any, arguments: list[str], *, debug: bool = False, as_json: bool = False) -> int:
    """Run a command of this tree and return its exit code.

    Errors that are no bug are printed, as a line and its fix or `as_json`; with `debug` they are raised.
    """
    say = _say_json if as_json else _say
    try:
        _refuse_halves(arguments)
        code = command.main(arguments, prog_name="custsvc", standalone_mode=False)
        sys.stdout.flush()
    except CustsvcError as exc:
        if debug:
            raise
        is_usage = exc.exit_code == ExitCode.USAGE
        say(str(exc), exc.fix or (_help_of(command, arguments) if is_usage else None), exc.exit_code)
        return exc.exit_code
    except _USAGE as exc:
        if debug:
            raise
        _say_usage(exc, say)
        return ExitCode.USAGE
    except typer.Abort:
        say("stopped before anything was changed", None, ExitCode.UNEXPECTED)
        return ExitCode.UNEXPECTED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the latter is how Typer ends on a broken pipe
        if not _reader_is_gone():
            raise
        _say_no_more()
        return ExitCode.PIPE_CLOSED
    except (OSError, RuntimeError) as exc:
        refused = None if debug else _of_this_machine(exc)
        if refused is None:
            raise
        say(*refused)
        if refused[-1] == ExitCode.UNEXPECTED:
            _say_no_more()
        return refused[-1]
    return code if isinstance(code, int) else ExitCode.OK


def _of_this_machine(exc: OSError | RuntimeError) -> tuple[str, str, int] | None:
    """What a disk, a place or an account refuses, its fix, and the exit code; None for any other error."""
    if isinstance(exc, OSError):
        where = exc.filename
        if exc.errno in _NO_ROOM:
            what = f"cannot write {where or 'the output'} ({exc.strerror})"
            return what, _ROOM_FIX, ExitCode.UNEXPECTED
        if exc.errno in _NO_PLACE and where is not None:
            return f"cannot use {where} ({exc.strerror})", _PLACE_FIX, ExitCode.CONFIGURATION
    elif str(exc).startswith(_NO_HOME):
        return "this account has no home folder", "set HOME", ExitCode.CONFIGURATION
    return None


def _refuse_halves(arguments: Sequence[str]) -> None:
    """Refuse arguments with bytes that are not UTF-8, other than the names of files that are there."""
    for word in arguments:
        if word.isascii() or word.encode("utf-8", "replace").decode() == word:
            continue
        if not os.path.lexists(word.rpartition("=")[2] if word.startswith("--") else word):
            coding = sys.getfilesystemencoding()
            if coding != "utf-8":
                raise ConfigurationError(
                    f"{word!r} is not in the encoding of this environment, {coding}", fix=_UTF_8
                )
            raise typer.BadParameter(f"{word!r} is not UTF-8")


def _say_json(message: str, fix: str | None, code: int) -> None:
    """One line for a program."""
    from ..domain.text import as_json

    line = as_json({"error": message, "fix": fix, "exit": code}).decode()
    _tell(printable.json_text(line))


def _say(message: str, fix: str | None, code: int) -> None:
    del code  # the shell has it
    _tell(printable.lines(f"error: {message}"))
    if fix:
        _tell(printable.lines(f"fix: {fix}"))


def _tell(line: str) -> None:
    """Print a line on stderr; where that takes nothing, the exit code still says what happened."""
    with suppress(OSError):
        typer.echo(line, err=True)


def _say_usage(exc: Any, say: Callable[[str, str | None, int], None]) -> None:
    """Print what is wrong with the arguments, in our words. Without a command there is only its help."""
    if type(exc).__name__ == "NoArgsIsHelpError":
        exc.show()
        return
    command = exc.ctx.command_path if getattr(exc, "ctx", None) else "custsvc"
    say(*_in_our_words(exc, f"{command} --help"), ExitCode.USAGE)


def _help_of(command: Any, arguments: list[str]) -> str:
    """How to ask for the help of the command that these arguments are for."""
    words = ["custsvc"]
    for word in arguments:
        if (inner := getattr(command, "commands", {}).get(word)) is not None:
            words.append(word)
            command = inner
    return f"{' '.join(words)} --help"


def _in_our_words(exc: Any, help_: str) -> tuple[str, str]:
    """What is wrong, and where to look."""
    kind = type(exc).__name__
    if kind == "MissingParameter":
        return f"{_named(exc)} is missing", help_
    if isinstance(exc, typer.BadParameter):
        name = _named(exc)
        said = _plain(str(exc.message))
        return (f"{name} {said}" if said.startswith("must ") else f"{name}: {said}" if name else said), help_
    if kind == "NoSuchOption":
        near = difflib.get_close_matches(exc.option_name, _options(exc.ctx), n=1)
        return f"there is no option {exc.option_name}", f"did you mean {near[0]}?" if near else help_
    text: str = exc.format_message().rstrip(".")
    if text.startswith("Got unexpected extra argument"):
        return (
            f"more arguments than there are: {text.rpartition('(')[2].rstrip(')')}",
            help_,
        )
    if text.startswith("No such command"):
        word = text.partition("'")[2].partition("'")[0]
        near = difflib.get_close_matches(word, exc.ctx.command.commands, n=1)
        fix = f"did you mean {exc.ctx.command_path} {near[0]}?" if near else help_
        return f"there is no command {word}", fix
    return text[:1].lower() + text[1:], help_


def _plain(message: str) -> str:
    """A message of the parser's own check of numbers, in our words; any other as it is."""
    found = _NUMBER.fullmatch(message)
    if found is None:
        return message
    if found["kind"]:
        return f"must be a {'whole number' if found['kind'] == 'integer' else 'number'}"
    return f"must be {_BOUNDS[found['bound']]} {float(found['limit']):,g}"


def _named(exc: Any) -> str:
    """The option or argument that it is about, as it is written."""
    hint = exc.param_hint
    if hint is None and exc.param is not None:
        is_option = exc.param.param_type_name == "option"
        hint = max(exc.param.opts, key=len) if is_option else (exc.param.metavar or exc.param.name.upper())
    words = [hint] if isinstance(hint, str) else list(hint or ())
    return " / ".join(word.strip("'[]. ") for word in words)


def _options(context: Any) -> list[str]:
    return [name for param in context.command.params for name in param.opts if name.startswith("-")]


def _reader_is_gone() -> bool:
    """Whether stdout or stderr is a pipe that nobody reads any more: `| head` has seen enough."""
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0))


def _say_no_more() -> None:
    """Discard buffered output, so that it does not fail once more when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
