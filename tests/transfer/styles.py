"""Files as other programs write them, in tests/data: all of the same three made-up people."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parents[1] / "data"

PEOPLE: Final = [
    ("Zoë Müller", "zoe.mueller@example.com", "+49 30 5550101"),
    ("José García López", "jose.garcia@example.com", "+34 91 5550102"),
    ("Ann O'Brien", "ann.obrien@example.com", "+353 1 5550103"),
]

# Each with its encoding, as it is told, and some of the metadata of the first of them.
TABLES: Final = {
    "hubspot.csv": ("utf-8", {"Company Name": "Müller GmbH, Berlin", "Record ID": "701"}),
    "salesforce.csv": ("windows-1252", {"Mailing City": "Berlin", "Salutation": "Ms."}),
    "mailchimp.csv": ("utf-8", {"MEMBER_RATING": "3", "TAGS": '"news","vip"'}),
    "google.csv": ("utf-8", {"Notes": "first line\nsecond line", "Birthday": "1980-02-29"}),
    "outlook.csv": ("windows-1252", {"Business Street": "Hauptstraße 1", "Company": "Müller GmbH"}),
    "excel_german.csv": ("windows-1252", {"Kundennummer": "0044", "Umsatz": "1.234,50"}),
    "excel_french.txt": ("utf-16", {"Ville": "Berlin"}),
    "calc_spanish.csv": ("utf-8", {"Ciudad": "Berlin; Mitte"}),
    "numbers_mac.csv": ("macintosh", {}),
    "piped.txt": ("utf-8", {}),
    "workbook.xlsx": (
        "utf-8",
        {"Kundennummer": "0044", "Umsatz": "1234.5", "Seit": "2026-03-01", "Aktiv": "true"},
    ),
}
OBJECTS: Final = {
    "array.json": ("utf-8", {"tags": 'a, "b" ]'}),
    "contacts.vcf": (
        "utf-8",
        {
            "company": "Müller GmbH, Sales",
            "email 2": "zoe.private@example.com",
            "phone 2": "+49 30 5550199",
            "street": "Hauptstraße 1",
            "postal_code": "10115",
            "note": "met in May, calls back\nand asks; twice",
        },
    ),
}
STYLES: Final = {**TABLES, **OBJECTS}
