"""Queries as people type them, and the names that they find: one table for every level of the search."""

from __future__ import annotations

from itertools import product

APOSTROPHES = "'’ʼ‘´`ʻ′＇‛ʹˈ"
HYPHENS = "-‐‑–—−－⸗·"

# A query, and a name that it finds.
FOUND: list[tuple[str, str]] = [
    *((typed, "Işık") for typed in ("ışık", "IŞIK", "isik", "ISIK", "Işık", "ısık")),
    *((typed, "İnci") for typed in ("inci", "INCI", "İNCİ", "ınci")),
    *((typed, "Łukasz") for typed in ("lukasz", "ŁUKASZ", "łuk")),
    *((typed, "Sørensen") for typed in ("sorensen", "SØRENSEN", "sören")),
    *((typed, "Đorđe") for typed in ("dorde", "đorđe")),
    *((typed, "Ħal") for typed in ("hal", "ħal")),
    *((typed, "Weiß") for typed in ("weiss", "WEISS", "weiß", "WEIẞ")),
    *((typed, "Æsop Œdipe") for typed in ("aesop", "oedipe", "æs", "ŒD")),
    *((typed, "Þór Sigurðsson") for typed in ("thor", "þór", "sigurdsson")),
    *((f"o{typed}brien", f"O{stored}Brien") for typed, stored in product((*APOSTROPHES, ""), APOSTROPHES)),
    *((f"O{typed}Brien", "OBrien") for typed in APOSTROPHES),
    *((f"O{typed}Brien", "O Brien") for typed in APOSTROPHES),
    *(
        (typed, "O'Neil-Smith")
        for typed in ("neil", "oneil", "smith", "oneil smith", "oneilsmith", "o'neil-s")
    ),
    *((f"jean{typed}luc", f"Jean{stored}Luc") for typed, stored in product((*HYPHENS, "", " "), HYPHENS)),
    *((f"jean{typed}luc", "Jean Luc") for typed in (*HYPHENS, " ")),
    *((f"jean{typed}luc", "Jeanluc") for typed in (*HYPHENS, "")),
    *(
        (typed, "山田太郎")
        for typed in ("太郎", "山田", "田太", "郎", "山田太郎", "山田 太郎", "山田・太郎", "太郎 山田")
    ),
    *((typed, "山田 太郎") for typed in ("太郎", "山田太郎", "山田　太郎")),
    *((typed, "山田Taro") for typed in ("taro", "山田taro", "山田 taro")),
    *((typed, "タロウ") for typed in ("たろう", "ﾀﾛｳ", "ろう")),
    *((typed, "がく") for typed in ("ガク", "ｶﾞｸ", "か\u3099く")),
    *((typed, "김철수") for typed in ("철수", "김", "김 철수", "\u1100\u1175\u11b7")),
    *((typed, "राम कुमार") for typed in ("राम", "कुमार", "रा")),
    *((typed, "ज़ाकिर") for typed in ("जाकिर", "ज\u093cाकिर")),
    *((typed, "مُحَمَّد") for typed in ("محمد", "محـــمد", "مُحمد")),
    *((typed, "أحمد علي") for typed in ("احمد", "علی", "إحمد")),
    *((typed, "שָׁלוֹם") for typed in ("שלום", "שלומ")),
    *((typed, "Nguyễn Đức") for typed in ("nguyen", "duc", "NGUYỄN", "Nguye\u0302\u0303n")),
    *((typed, "Σοφός Ελένη") for typed in ("σοφος", "ΣΟΦΟΣ", "σοφοσ", "ελενη", "ΕΛΈΝΗ")),
    *((typed, "Алёна Андрей") for typed in ("алена", "АЛЁНА", "андреи", "Андре\u0438\u0306")),
    *((typed, "Ａｎｎ Oﬃce") for typed in ("ann", "office", "ＡＮＮ", "oﬃ")),
    *((typed, "นายสมชาย") for typed in ("สมชาย", "นาย")),
    *((typed, "Gal·la") for typed in ("galla", "gal-la", "gal·la")),
    *((typed, "Zoe\u0308") for typed in ("zoe", "ZOË", "zoe\u0308")),
    *((typed, "Jo\u00adhn\u200b Smith") for typed in ("john", "jo\u200dhn")),
    ("१२", "Raum 12"),
]
# A query, and a name that it does not find.
NOT_FOUND = [
    ("राम", "रमी"),
    ("राम", "रम"),
    ("कि", "की"),
    ("だ", "た"),
    ("กี", "กา"),
    ("ann", "Joann"),
    ("smith", "Schmidt"),
    ("jeanluc", "Jean"),
]
PHONES = [
    "+44 20 7946 0000",
    "+442079460000",
    "+44 (0)20 7946-0000",
    "0044 20 79460000",
    "020 7946 0000",
    "(020) 7946.0000",
    "０２０ ７９４６ ００００",
    "٠٢٠٧٩٤٦٠٠٠٠",
]
# Each of these finds each of those.
TYPED = [
    *PHONES,
    "02079460000",
    "+442079460000",
    "7946 0000",
    "79460000",
    "0000",
    "2079460000",
    "20 7946",
    "020 7946",
    "+44 20 79",
]
# A query, and a number that it does not find.
OTHER_PHONES = [
    ("+442079460000", "+1 207 946 0000"),
    ("7946 0001", "+44 20 7946 0000"),
    ("946", "+442079460000"),
]
