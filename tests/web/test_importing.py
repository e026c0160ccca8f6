"""The steps of an import on the pages, without a browser: columns by place, choices kept, applied once."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from werkzeug.test import TestResponse

from custsvc.ports.customers import CustomerFilter, CustomerQuery
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from tests.browser_form import form_of
from tests.transfer.styles import DATA, PEOPLE, STYLES
from tests.waiting import until

from .conftest import Visitor, words


def upload(visitor: Visitor, content: bytes, name: str = "people.csv") -> TestResponse:
    visitor.get("/ui/import")
    data = {"csrf": visitor.csrf, "file": (io.BytesIO(content), name)}
    return visitor.client.post("/ui/import", base_url=visitor.base_url, data=data)


def all_of(store: Store) -> list[dict[str, Any]]:
    page = store.customers.find(CustomerQuery(200, CustomerFilter("include")))
    return list(orjson.loads(b"[" + page.docs + b"]"))


def ended(visitor: Visitor, path: str) -> TestResponse:
    """The page of a job, once that is over."""
    return until("the job ends", lambda: "so far" not in (page := visitor.get(path)).text and page)


def planned(visitor: Visitor, content: bytes, **choices: str) -> tuple[str, TestResponse]:
    """The path of the plan, and its page."""
    mapping = upload(visitor, content).location
    visitor.get(mapping)
    answer = visitor.post(mapping, **choices)
    assert answer.status_code == 303, words(answer)
    return answer.location, ended(visitor, answer.location)


def test_columns_of_one_name_are_chosen_each_by_its_place(ann: Visitor, store: Store) -> None:
    content = b"name,Phone,Phone,,metadata.tier\nA,1,2,3,gold\n"
    chosen = {"column-1": "phone", "column-2": "", "column-3": "metadata.*"}

    path, _ = planned(ann, content, **chosen)
    done = ended(ann, ann.post(path.replace("/plan/", "/apply/")).location)

    assert "Done." in words(done)
    (customer,) = all_of(store)
    assert customer["phone"] == "1"
    assert customer["metadata"] == {"column 4": "3", "tier": "gold"}


def test_after_a_refusal_every_choice_is_still_there(ann: Visitor) -> None:
    path = upload(ann, b"name,Phone,Phone,E-mail,version\nA,1,2,a@example.org,1\n").location
    ann.get(path)
    chosen = {
        "column-0": "name",
        "column-1": "phone",
        "column-2": "phone",
        "column-3": "",
        "column-4": "",
        "on": "id",
        "restore": "on",
        "empty": "keep",
        "metadata": "merge",
    }

    refused = ann.post(path, **chosen)

    assert refused.status_code == 400
    assert "columns 2 and 3" in words(refused)
    assert dict(form_of(refused.text).fields).items() >= chosen.items()

    right = {**chosen, "column-2": "metadata.*", "column-3": "email"}
    plan = ann.post(path, **right).location
    back = re.search(r'class="crumb" href="([^"]+)"', ended(ann, plan).text)
    assert back is not None
    assert dict(form_of(ann.get(back[1]).text).fields).items() >= right.items()


def test_a_file_whose_own_fault_it_is_says_so_and_offers_the_way_back(ann: Visitor, store: Store) -> None:
    page = upload(ann, b'"name,phone\nA,1\n')
    assert page.status_code == 400
    assert "File" in words(page)
    assert "first line is not CSV" in words(page)

    path, plan = planned(ann, b'name,phone\nA,1\nB,"2\nC,3\n')
    assert "in line 3 a quote opens" in words(plan)
    assert "Back to the columns" in words(plan)
    assert ann.post(path.replace("/plan/", "/apply/")).status_code == 404
    assert all_of(store) == []


def test_a_table_that_is_accepted_is_never_too_wide_for_the_form_of_its_columns(ann: Visitor) -> None:
    for count, status in ((1900, 303), (1901, 400), (5000, 400)):
        heading = ",".join(["name", *(f"c{n}" for n in range(1, count))])

        page = upload(ann, f"{heading}\nAnn\n".encode())

        assert page.status_code == status
        if status == 303:
            form = form_of(ann.get(page.location).text)
            assert ann.post(page.location, **dict(form.fields)).status_code == 303
        else:
            assert f"has {count:,} columns" in words(page)


def test_a_plan_is_done_once_however_often_the_button_is_pressed(
    app: Any, ann: Visitor, make_user: Callable[..., Any], store: Store
) -> None:
    path, plan = planned(ann, b"name\nAnn\nBob\n")
    assert "3 lines: 2 of rows, 1 of the heading, 0 empty." in words(plan)
    apply = path.replace("/plan/", "/apply/")
    first = ann.post(apply)
    ended(ann, first.location)

    ended(ann, path)  # the browser's Back
    again = ann.post(apply)
    make_user("bob")
    bob = Visitor(app)
    bob.sign_in("bob")
    bob.get(path)
    others = bob.post(apply)

    assert first.location == again.location == others.location
    page = words(ended(ann, again.location))
    assert "2 added" in page
    assert [each["name"] for each in all_of(store)] == ["Ann", "Bob"]


def test_the_plan_reports_a_row_of_an_older_version_as_a_conflict(ann: Visitor, store: Store) -> None:
    service = CustomerService(store.customers)
    from custsvc.domain.customers import Fields

    one = service.create(Fields("Ann"), Caller("me")).id
    service.replace(one, Fields("Theirs"), Caller("me"))

    _, plan = planned(ann, b"id,name,version\n%d,Mine,1\n" % one, on="id")

    assert "1 row names another version" in words(plan)
    assert "There is nothing to do." in words(plan)


@pytest.mark.parametrize(("ticked", "is_marked"), [({}, True), ({"mails": "on"}, False)])
def test_the_mails_of_a_plan_are_counted_and_sent_only_where_that_is_ticked(
    ann: Visitor, store: Store, ticked: dict[str, str], is_marked: bool
) -> None:
    path, plan = planned(
        ann, b"name,email\nAnn,ann@example.com\nBob,\n", **{"column-0": "name", "column-1": "email"}
    )
    assert "Send the 1 mail that the rules call for" in words(plan)

    ended(ann, ann.post(path.replace("/plan/", "/apply/"), **ticked).location)

    events = [store.customers.history(each["id"], limit=1)[0] for each in all_of(store)]
    assert [orjson.loads(event).get("bulk", False) for event in events] == [is_marked] * 2


def test_an_import_is_undone_from_its_page(ann: Visitor, store: Store) -> None:
    path, _ = planned(ann, b"name\nAnn\nBob\n")
    done = ended(ann, ann.post(path.replace("/plan/", "/apply/")).location)
    link = re.search(r'href="(/ui/imports/\w+)"', done.text)
    assert link is not None

    assert "2 added" in words(ann.get("/ui/import"))
    ann.get(link[1])
    first = ann.post(link[1] + "/undo").location
    page = words(ended(ann, first))

    assert "Undone." in page
    assert "2 deleted" in page
    assert all(each["deleted"] for each in all_of(store))
    assert ann.post(link[1] + "/undo").location == first
    assert "This import was undone." in words(ann.get(link[1]))


@pytest.mark.parametrize("style", STYLES)
def test_files_of_other_programs_are_understood(ann: Visitor, store: Store, style: str) -> None:
    mapping = upload(ann, (DATA / style).read_bytes(), style).location
    page = ann.get(mapping)
    plan = ann.post(mapping, **dict(form_of(page.text).fields))
    done = (
        ended(ann, ann.post(plan.location.replace("/plan/", "/apply/")).location)
        if (ended(ann, plan.location))
        else page
    )

    assert "3 added" in words(done), words(done)
    assert [(c["name"], c["email"], c["phone"]) for c in all_of(store)] == PEOPLE


def test_the_values_stand_beside_each_column_and_a_wrong_guess_can_be_corrected(ann: Visitor) -> None:
    mapping = upload(ann, "Wer,Wo\nŽaneta,Łódź\n".encode("cp1250")).location
    page = ann.get(mapping)
    assert "No column is the name." in words(page)

    ann.post(mapping + "/shape", encoding="windows-1250", delimiter="comma")
    right = words(ann.get(mapping))
    ann.post(mapping + "/shape", encoding="utf-16", delimiter="comma")

    assert "Žaneta" in right
    assert "Łódź" in right
    assert "windows-1250" in right
    assert "cannot be read so" in words(ann.get(mapping))


def test_rows_that_are_likely_customers_already_are_named_before_anything_is_done(
    ann: Visitor, store: Store
) -> None:
    from custsvc.domain.customers import Fields

    ada = CustomerService(store.customers).create(Fields("Ada Lovelace", "ada@example.org"), Caller("me")).id

    _, plan = planned(ann, b"name,email\nA. Lovelace,ada@example.org\nBob,\n", on="id")

    assert "1 row to add is likely a customer that is there already; the rows below name them" in words(plan)
    assert f'href="/ui/customers/{ada}"' in plan.text


def test_rows_that_are_wrong_come_as_a_file_that_is_corrected_and_imported_again(
    ann: Visitor, store: Store
) -> None:
    rows = [f"Name {n},{'nobody' if n % 4 == 0 else f'n{n}@example.org'},=1+{n}" for n in range(5000)]
    path, plan = planned(ann, "\n".join(["name;email;Note", *rows]).replace(",", ";").encode())
    link = re.search(r'href="(/ui/import/\w+/wrong/\w+)"', plan.text)
    assert link is not None
    assert "1,250 rows to correct, as a file" in words(plan)
    ended(ann, ann.post(path.replace("/plan/", "/apply/"), skip="on").location)

    file = ann.get(link[1])
    again, plan = planned(ann, file.data.replace(b";nobody;", b";somebody@example.org;", 1), on="id")

    assert file.headers["Content-Disposition"] == 'attachment; filename="to-correct.csv"'
    assert file.text.count("E-mail is not an e-mail address") == 1250
    assert "1 to add" in words(plan)
    assert "1,249 wrong" in words(plan)
    done = ended(ann, ann.post(again.replace("/plan/", "/apply/"), skip="on").location)
    assert "1,249 rows to correct, as a file" in words(done)
    (corrected,) = store.customers.get_by_emails(["somebody@example.org"])
    assert corrected.customer().fields.metadata == {"Note": "=1+0"}
    assert store.customers.count() == 3 * 1250 + 1


def test_cards_that_are_wrong_come_as_cards(ann: Visitor, store: Store) -> None:
    right = "BEGIN:VCARD\nVERSION:4.0\nFN:Ann\nEMAIL:ann@example.org\nEND:VCARD\n"
    _, plan = planned(ann, (right + right.replace("ann@example.org", "nobody")).encode())
    (link,) = re.findall(r'href="(/ui/import/\w+/wrong/\w+)"', plan.text)

    file = ann.get(link)
    again, plan = planned(ann, file.data.replace(b":nobody", b":bob@example.org"))

    assert file.headers["Content-Disposition"] == 'attachment; filename="to-correct.vcf"'
    assert "X-CUSTSVC-WRONG:E-mail is not an e-mail address" in file.text
    assert file.text.count("END:VCARD") == 1
    ended(ann, ann.post(again.replace("/plan/", "/apply/")).location)
    (corrected,) = store.customers.get_by_emails(["bob@example.org"])
    assert corrected.customer().fields.metadata == {}


def test_cells_that_a_spreadsheet_has_spoilt_are_shown_before_anything_is_done(ann: Visitor) -> None:
    _, plan = planned(ann, (DATA / "spoilt.csv").read_bytes())

    assert "4 cells were spoilt by a spreadsheet" in words(plan)
    assert "4.42079E+11" in words(plan)
