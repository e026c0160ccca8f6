"""Rules and templates as files: their meaning, and errors that name the line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from custsvc.config import Settings
from custsvc.doctor.checks import _rules as doctor_rules
from custsvc.errors import ConfigurationError
from custsvc.notify.channels.unsubscribe import UnsubscribeLinks
from custsvc.notify.intake.notifications import notifications_of
from custsvc.notify.preview import copy_defaults
from custsvc.notify.rules import sample
from custsvc.notify.rules.file import findings, load
from custsvc.notify.rules.rules import Rules
from custsvc.notify.run import run_notify
from custsvc.runtime.loop import Stop

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def written(folder: Path, text: str, **templates: str) -> Settings:
    """Settings with this rules file; `name_txt="…"` writes a template."""
    (folder / "templates").mkdir(exist_ok=True)
    for name, content in templates.items():
        (folder / "templates" / name.replace("_", ".")).write_text(textwrap.dedent(content))
    path = folder / "notify.toml"
    path.write_text('templates = "templates"\n' + textwrap.dedent(text))
    return Settings(notify_rules=str(path))


def rule(more: str = "", *, ops: str = '["updated"]') -> str:
    return f'[[rule]]\nname = "r"\nops = {ops}\ntemplate = "changed"\n{more}\n'


def matching(rules: Rules, op: str = "updated", *, bare: bool = False) -> list[str]:
    return [found.name for found, _ in rules.matches(sample.event(op, bare=bare))]


# -- what rules say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "is_for_it"),
    [
        ('changed = ["email"]', True),
        ('changed = ["metadata.plan"]', True),
        ('changed = ["metadata"]', True),
        ('changed = ["metadata.vip"]', False),
        ('when = { "metadata.plan" = "silver" }', True),
        ('when = { "metadata.plan" = "gold" }', False),
        ('when = { "before.metadata.plan" = "gold" }', True),
        ("when = { metadata.plan = 'silver' }", True),
        ('when = { "metadata.plan" = ["silver", "bronze"] }', True),
        ('when = { "metadata.plan" = ["gold"] }', False),
        ('when = { "metadata.seats" = { there = true } }', False),
        ('when = { "before.metadata.seats" = { above = 2, below = 4 } }', True),
        ('when = { "metadata.plan" = { above = 2 } }', False),
        ('when = { email = { ends_with = "@example.com" } }', True),
        ('when = { email = { starts_with = "x" } }', False),
        ('when = { name = { contains = "King" } }', True),
        ('when = { name = { is_not = "Ada King" } }', False),
        ('when = { "metadata.vip" = true }', True),
        ('when = { "metadata.vip" = 1 }', False),
        ("when = { phone = { there = false } }", True),
    ],
)
def test_a_rule_matches_the_events_it_names(line: str, is_for_it: bool, tmp_path: Path) -> None:
    assert matching(load(written(tmp_path, rule(line)))) == (["r"] if is_for_it else [])


def test_a_rule_may_name_addresses_of_its_own(tmp_path: Path) -> None:
    rules = load(written(tmp_path, rule('to = ["Ops@Example.com", "sales@example.com"]')))

    found = notifications_of(sample.event("updated"), rules, None)

    assert [n.recipient for n in found] == ["Ops@example.com", "sales@example.com"]


def test_a_template_of_the_folder_takes_the_place_of_the_built_in_one(tmp_path: Path) -> None:
    settings = written(tmp_path, rule(), changed_txt="New: {{ name }}\n\nBody\n")
    (found,) = notifications_of(sample.event("updated"), load(settings), None)

    assert found.subject == "New: Ada King"
    assert found.text == "Body\n"
    assert "Your details were changed" in (found.html or "")


def test_the_style_sheet_is_written_into_the_elements() -> None:
    (found, _) = notifications_of(sample.event("updated"), load(Settings()), None)

    assert found.html is not None
    assert "<style" not in found.html
    assert '<td style="text-align: left;' in found.html


def test_the_copied_rules_and_templates_are_the_built_in_ones(tmp_path: Path) -> None:
    written_files = list(copy_defaults(tmp_path / "mine"))
    copied = load(Settings(notify_rules=str(tmp_path / "mine" / "notify.toml")))

    assert copied.rules == load(Settings()).rules
    assert tmp_path / "mine" / "templates" / "welcome.html" in written_files
    with pytest.raises(Exception, match="is there already"):
        list(copy_defaults(tmp_path / "mine"))


def test_mails_that_need_not_be_wanted_carry_the_link_and_others_none() -> None:
    links = UnsubscribeLinks(b"secret", "https://crm.example.com/")

    by_rule = {n.rule: n for n in notifications_of(sample.event("updated"), load(Settings()), links)}

    assert links.url(7) in by_rule["changed"].text
    assert links.url(7) in (by_rule["changed"].html or "")
    assert "nsubscribe" not in by_rule["address-changed"].text


def test_a_webhook_gets_the_event_byte_for_byte(tmp_path: Path) -> None:
    channel = f'[channel.crm]\nkind = "webhook"\nurl = "https://crm.example.com/h"\nsecret = "{SECRET}"\n'
    hook = '[[rule]]\nname = "h"\nops = ["updated"]\nchannel = "crm"\n'
    event = sample.event("updated")

    (found,) = notifications_of(event, load(written(tmp_path, channel + hook)), None)

    assert (found.channel, found.recipient, found.text) == ("crm", "crm", event.value.decode())


# -- what is wrong with them -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[[rule]]\nname =\n", 3, "not valid TOML"),
        ("[[rules]]\nname = 'r'\n", 2, "did you mean 'rule'"),
        (rule() + rule(), 8, "two rules of this name"),
        (rule("templat = 'x'"), 6, "did you mean 'template'"),
        (rule(ops='["update"]'), 4, "did you mean 'updated'"),
        (rule(ops="[]"), 4, "ops is missing"),
        (rule('to = "a@x.de, b@x.de"'), 6, "to must be customer"),
        (rule("changed = ['mail']"), 6, "'mail' is no field"),
        (rule("when = { plan = 1 }"), 6, "'plan' is no field"),
        (rule("when = { name = { like = 'x' } }"), 6, "unknown test 'like'"),
        (rule("when = { name = { contains = 5 } }"), 6, "contains does not go with 5"),
        (rule("when = { version = { above = true } }"), 6, "above does not go with True"),
        (rule("channel = 'slack'"), 6, "unknown channel 'slack'"),
        (rule("digest = 'hourly'"), 6, "digest must be seconds"),
        (rule("always = 'yes'"), 6, "always must be true or false"),
        ("[channel.crm]\nkind = 'webhook'\nurl = 'http://crm.example.com'\nsecret = 'x'\n", 4, "clear text"),
        ("[channel.crm]\nkind = 'webhook'\nurl = 'https://crm.example.com'\n", 2, "secret or secret_file"),
        ("[channel.crm]\nkind = 'fax'\n", 3, "kind must be"),
        ("[channel.crm]\nkind = 'apprise'\nurl_file = 'none'\n", 4, "cannot be read"),
        (
            "[channel.crm]\nkind = 'webhook'\nurl = 'https://[::1/h'\nsecret = 'x'\n",
            4,
            "webhook is wrong",
        ),
        ("[channel.crm]\nkind = 'apprise'\nurl_file = 'utf-16'\n", 4, "cannot be read (it is not UTF-8)"),
        (rule().replace('"changed"', '"chnged"'), None, "there is no template chnged.txt"),
    ],
)
def test_a_wrong_rule_is_reported_with_its_line(
    text: str, line: int | None, problem: str, tmp_path: Path
) -> None:
    settings = written(tmp_path, text)
    (tmp_path / "utf-16").write_text("json://localhost", encoding="utf-16")  # as PowerShell saves it

    found = findings(settings)[0]

    assert problem in found.problem
    assert found.line == line
    assert found.fix


def test_rules_templates_and_secrets_may_begin_with_the_mark_of_windows(tmp_path: Path) -> None:
    channel = '[channel.crm]\nkind = "webhook"\nurl = "https://crm.example.com/h"\nsecret_file = "secret"\n'
    settings = written(tmp_path, channel + rule(), changed_txt="Hi {{ name }}\nText\n")
    (tmp_path / "secret").write_text(SECRET)
    for path in [each for each in tmp_path.rglob("*") if each.is_file()]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))

    rules = load(settings)

    assert rules.channels["crm"].secret == SECRET
    event = sample.event("updated")
    (found,) = notifications_of(event, rules, None)
    assert found.subject == f"Hi {event.after['name']}"


@pytest.mark.parametrize(
    ("template", "line", "problem"),
    [
        ("Hi\n\n{{ nmae }}\n", 3, "'nmae' is undefined"),
        ("Hi\n\n{% if x %}\n", 3, "end of template"),
        ("Hi\n\n\n{% for change in changes %}{{ change.was }}{% endfor %}\n", 4, "no attribute 'was'"),
        ("Hi\n{{ version / 0 }}\n", 2, "division by zero"),
        ("\nNo subject\n", 1, "subject"),
        ("Hi\n{% if name == 'zz' %}\n{{ nmae }}{% endif %}\n", 3, "'nmae' is undefined"),
        ("Hi\n{% if name == 'zz' %}\n{{ name | uper }}{% endif %}\n", 3, "no filter 'uper'"),
        ("Hi\n{% if name == 'zz' and name is odder %}{% endif %}\n", 2, "no test 'odder'"),
        ("Hi\n{% if name == 'zz' %}{% include 'foots.txt' %}{% endif %}\n", 2, "no template foots.txt"),
        ("Hi\n\n{{ name | uper }}\n", 3, "no filter 'uper'"),
        ("Hi\n{{ nmae }}{% if name is odder %}{% endif %}\n", 2, "no test 'odder'"),
        ("{% extends 'nothing.txt' %}\n", 1, "no template nothing.txt"),
    ],
)
def test_a_wrong_template_is_reported_with_its_line(
    template: str, line: int | None, problem: str, tmp_path: Path
) -> None:
    settings = written(tmp_path, rule(), changed_txt=template)

    found = findings(settings)[0]

    assert problem in found.problem
    assert found.line == line
    assert "changed.txt" in found.file


def test_a_variable_that_a_template_sets_may_be_shown_by_its_base(tmp_path: Path) -> None:
    settings = written(
        tmp_path,
        rule(),
        changed_txt="Hi\n{% set who = name %}{% include 'who.txt' %}",
        who_txt="{{ who }}{% for each in changes %}{{ loop.index }}{{ each.label }}{% endfor %}"
        "{% include 'nothing.txt' ignore missing %}",
    )

    assert findings(settings) == []


def test_a_template_that_fails_for_one_customer_fails_that_mail_only(tmp_path: Path) -> None:
    text = "Hi\n{% if metadata.plan == 'gold' %}{{ metadata.seats.more }}{% endif %}"
    settings = written(tmp_path, rule(), changed_txt=text.replace("metadata.plan", "metadata.get('plan')"))
    silver, gold = sample.event("updated"), sample.event("updated")
    gold = gold._replace(after={**gold.after, "metadata": {"plan": "gold"}})

    (fine,), (failed,) = (notifications_of(event, load(settings), None) for event in (silver, gold))

    assert (fine.state, failed.state) == ("queued", "failed")
    assert f"{tmp_path / 'templates' / 'changed.txt'}:2: " in (failed.reason or "")


@pytest.mark.parametrize(
    "fails",
    [
        "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
        '{% include "changed.txt" %}',
        "{{ 'x' * 10 ** 30 }}",
        "{{ 10 ** (name | length * 1000) }}",
        "{{ '%d' % name }}",
        "{{ [1, name] | sort }}",
        "{{ 1 / 0 }}",
        "{{ name() }}",
        "{{ changes[-1].nothing }}",
    ],
)
def test_whatever_fails_in_a_template_holds_up_no_other_mail(tmp_path: Path, fails: str) -> None:
    text = "Hi\n{% if metadata.get('plan') == 'gold' %}" + fails + "{% endif %}"
    rules = load(written(tmp_path, rule(), changed_txt=text))
    event = sample.event("updated")

    (failed,) = notifications_of(
        event._replace(after={**event.after, "metadata": {"plan": "gold"}}), rules, None
    )
    (fine,) = notifications_of(event, rules, None)

    assert (failed.state, fine.state) == ("failed", "queued")
    assert "changed.txt" in (failed.reason or "")


@pytest.mark.parametrize("name", ["changed.txt", "changed.html", "part.txt", "layout.html"])
@pytest.mark.parametrize("content", [b"", b"{{ na", b"Another", b"\xff{{", None])
def test_what_is_saved_while_notify_runs_is_in_no_mail(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    settings = written(tmp_path, rule(), changed_txt='Hi\n\nold {% include "part.txt" %}', part_txt="part")
    rules = load(settings)
    event = sample.event("updated")
    (before,) = notifications_of(event, rules, None)

    file = tmp_path / "templates" / name
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)
    (after,) = notifications_of(event, rules, None)

    assert after == before
    assert after.text.endswith("old part")


def test_all_errors_of_a_rules_file_are_reported_together_and_doctor_shows_them(tmp_path: Path) -> None:
    settings = written(tmp_path, rule("x = 1") + rule(ops="['y']"))

    assert len(findings(settings)) == 2
    assert [found.level for found in doctor_rules(settings)] == ["failed", "failed"]
    assert [found.level for found in doctor_rules(Settings())] == ["ok"]


def test_the_role_does_not_start_with_a_wrong_rule(tmp_path: Path) -> None:
    settings = written(tmp_path, rule("x = 1")).replace(smtp_url="smtp://mail.example.com")

    with pytest.raises(ConfigurationError, match=r"notify\.toml:6: .*unknown key 'x'") as caught:
        run_notify(settings, Stop())

    assert caught.value.fix
    assert caught.value.exit_code == 3
