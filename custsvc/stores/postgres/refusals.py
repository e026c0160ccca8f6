"""Which errors at connect waiting does not fix, in the languages of PostgreSQL.

Its `lc_messages` applies to logins too, and libpq gives no SQLSTATE for a failed connection, so only the text
is left. The translations are those that PostgreSQL ships (src/backend/po).
"""

from __future__ import annotations

import re
from typing import Final

_ENGLISH: Final = re.compile(
    r"password authentication failed|no password supplied|(role|database) \"[^\"]*\" does not exist"
    r"|Peer authentication failed|is not permitted to log in|pg_hba\.conf"
    r"|invalid (dsn|connection option|URI|port|integer value)|certificate"
    r"|tlsv1\d? alert|does not support SSL|permission denied"
    r"|invalid \w+ value|invalid value for parameter|unrecognized configuration parameter"
    r"|definition of service|could not parse network address|private key file"
    r"|server requested|channel binding required|authentication method requirement"
    r"|no such (database|user)|unsupported startup parameter"
)

# A wrong password, no such role, no such database, no LOGIN, no CONNECT; `…` is a name in quotes. All
# languages call pg_hba.conf by its name.
TRANSLATIONS: Final[dict[str, tuple[str, ...]]] = {
    "de": (
        "Passwort-Authentifizierung für Benutzer … fehlgeschlagen",
        "Rolle … existiert nicht",
        "Datenbank … existiert nicht",
        "Rolle … hat keine Berechtigung zum Einloggen",
        "keine Berechtigung für Datenbank …",
    ),
    "es": (
        "la autentificación password falló para el usuario …",
        "no existe el rol …",
        "no existe la base de datos …",
        "al rol … no se le permite conectarse",
        "permiso denegado a la base de datos …",
    ),
    "fr": (
        "authentification par mot de passe échouée pour l'utilisateur …",
        "le rôle … n'existe pas",
        "la base de données … n'existe pas",
        "le rôle … n'est pas autorisé à se connecter",
        "droit refusé pour la base de données …",
    ),
    "it": (
        "autenticazione con password fallita per l'utente …",
        "il ruolo … non esiste",
        "il database … non esiste",
        "al ruolo … non è consentito effettuare il login",
        "permesso negato per il database …",
    ),
    "ja": (
        "ユーザー…のパスワード認証に失敗しました",
        "ロール…は存在しません",
        "データベース…は存在しません",
        "ロール…はログインが許可されません",
        "データベース…へのアクセスが拒否されました",
    ),
    "ko": (
        "사용자 …의 password 인증을 실패했습니다",
        "… 롤(role) 없음",
        "… 데이터베이스 없음",
        "… 롤은 접속을 허용하지 않음",
        "… 데이터베이스 액세스 권한 없음",
    ),
    "pt_BR": (
        "autenticação do tipo senha falhou para usuário …",
        "role … não existe",
        "banco de dados … não existe",
        "role … não tem permissão para efetuar login",
        "permissão negada para banco de dados …",
    ),
    "ru": (
        "пользователь … не прошёл проверку подлинности (по паролю)",
        "роль … не существует",
        "база данных … не существует",
        "для роли … вход запрещён",
        "доступ к базе … запрещён",
    ),
    "sv": (
        "Lösenordsautentisering misslyckades för användare …",
        "rollen … finns inte",
        "databasen … existerar inte",
        "roll … tillåts inte logga in",
        "rättighet saknas för databas …",
    ),
    "uk": (
        "користувач … не пройшов автентифікацію за допомогою пароля",
        "роль … не існує",
        "бази даних … не існує",
        "для ролі … вхід не дозволений",
        "доступ до бази даних … відхилений",
    ),
    "zh_CN": (
        "用户 … Password 认证失败",
        "角色 … 不存在",
        "数据库 … 不存在",
        "不允许角色… 进行登录",
        "访问数据库…的权限不够",
    ),
}

# The server sends the message in the encoding of its locale: no database is chosen yet.
_ENCODINGS: Final = (
    "utf-8",
    "cp1252",
    "koi8-r",
    "koi8-u",
    "iso8859-5",
    "cp1251",
    "euc-jp",
    "euc-kr",
    "gb18030",
)


def _bare(text: str) -> str:
    """Without blanks: versions and languages differ in those around a name."""
    return "".join(text.split())


_TRANSLATED: Final = tuple(
    tuple(map(_bare, text.split("…"))) for texts in TRANSLATIONS.values() for text in texts
)


def is_refusal(reason: str) -> bool:
    """Whether this message is about the address or the account, so that waiting does not help."""
    text = _bare(reason)
    return bool(_ENGLISH.search(reason)) or any(_has(text, parts) for parts in _TRANSLATED)


def _has(text: str, parts: tuple[str, ...]) -> bool:
    """Whether a text has these parts in this order."""
    place = 0
    for part in parts:
        if (found := text.find(part, place)) < 0:
            return False
        place = found + len(part)
    return True


def text_of(message: bytes) -> str:
    """A message that is not UTF-8: as a refusal if it is one in any encoding, else what is readable of it."""
    for encoding in _ENCODINGS:
        if is_refusal(text := message.decode(encoding, "replace")):
            return text
    return message.decode("ascii", "replace")
