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
}
OBJECTS: Final = {"array.json": ("utf-8", {"tags": 'a, "b" ]'})}
STYLES: Final = {**TABLES, **OBJECTS}
