"""Given names that stand for each other: what people are called, and what their papers say.

Folded, as `fold` folds. A name may stand in more than one group, as `alex` and `chris` do.
"""

from __future__ import annotations

from functools import cache
from typing import Final

_GROUPS: Final = """
abigail abby gail
albert al bert bertie
alexander alex sandy sasha xander
alexandra alex sandra sasha lexi
alfred alf alfie fred
andrew andy drew
anthony tony
antonio toni tonio
barbara barb babs barbie
benjamin ben benny benji
bernard bernie
catherine katherine kathryn cathy kathy kate katie kitty
charles charlie chuck carl
charlotte lottie charlie
christina chris tina chrissy
christine chris tina chrissy
christopher chris kit topher
daniel dan danny
david dave davy
deborah debbie deb
dorothy dot dottie dolly
edward ed eddie ned ted teddy
elizabeth elisabeth liz lizzie beth betty betsy eliza lisa libby elsie
eleanor ellie nell nora
eugene gene
francis frank frankie
frances fran fanny frankie
franz franzi
frederick fred freddie fritz
friedrich fritz fred
gabriel gabe
gabriele gabi gaby
gerald gerry jerry
gregory greg
harold harry hal
henry harry hank hal
isabella bella izzy isa
jacob jake
james jim jimmy jamie
janet jan
jeffrey jeff geoff
jennifer jen jenny
jessica jess jessie
johann hans jan hannes
johannes hans jan hannes joe
john johnny jack jon
jonathan jon johnny nathan
joseph joe joey jo
josef sepp jupp beppe
jose pepe
joshua josh
judith judy
kenneth ken kenny
lawrence larry
leonard leo len lenny
louis lou louie
margaret maggie meg peggy marge greta rita
maria mia mary
martin marty
matthew matt matty
maximilian max
michael mike mick mickey micky
michelle shelly
mohammed mohamed muhammad mohammad mo
nathaniel nathan nate
nicholas nick nicky klaus nico
nicole nicky
pamela pam
patricia pat patty tricia trish
patrick pat paddy
peter pete
philip phil
raymond ray
rebecca becky becca
richard rick ricky rich dick
robert rob robbie bob bobby bert
ronald ron ronnie
samuel sam sammy
samantha sam sammy
sebastian seb basti
stephanie steph
stephen steven steve
susan sue susie suzy
susanne susi
teresa theresa terry tess
theodore ted teddy theo
thomas tom tommy
timothy tim timmy
ulrich uli
ursula ulla uschi
valerie val
victoria vicky tori
vincent vince vinny
walter walt wally
wilhelm willi willy
william will bill billy willie liam
wolfgang wolf
yevgeny eugene
zachary zach zack
"""


@cache
def _groups() -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for number, line in enumerate(_GROUPS.split("\n")):
        for name in line.split():
            found.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in found.items()}


def stand_for_each_other(one: str, other: str) -> bool:
    """Whether two folded given names are ways to call the same person."""
    groups = _groups()
    return not groups.get(one, frozenset()).isdisjoint(groups.get(other, ()))


def nicknames_of(name: str) -> set[str]:
    """The names that stand for a folded given name, without itself."""
    groups = _groups()
    mine = groups.get(name, frozenset())
    return {other for other, numbers in groups.items() if not mine.isdisjoint(numbers)} - {name}
