"""All problems: code, status, title, and the cause and cure for their pages."""

from __future__ import annotations

from typing import Final, NamedTuple


class Code(NamedTuple):
    """One kind of problem. `cause` and `cure` are for the user who meets it."""

    status: int
    title: str
    cause: str
    cure: str


CODES: Final[dict[str, Code]] = {
    "validation": Code(
        400,
        "The input is not valid",
        "A field of the body or a parameter has a value that cannot be stored or understood.",
        "Correct what `errors` names: each entry has the field, a code and a message.",
    ),
    "bad-json": Code(
        400,
        "The body is not JSON",
        "The body is not UTF-8, not JSON, nested too deeply, or holds a number that is no JSON number.",
        "Correct the place that `detail` names. NaN and Infinity are not JSON.",
    ),
    "bad-request": Code(
        400,
        "The request is malformed",
        "The request breaks the rules of HTTP, so it did not get as far as the API.",
        "Look at what your client sends, with `curl -v` for example.",
    ),
    "bad-header": Code(
        400,
        "A header is malformed",
        "A header cannot be read. Ignoring it could do something that you do not want.",
        'Correct the header that `detail` names. If-Match takes an ETag exactly as you got it: "v3".',
    ),
    "bad-cursor": Code(
        400,
        "The cursor is not one of ours",
        "A cursor is signed. This one was changed, cut short, or made by another installation.",
        "Follow `next` of the list unchanged, or start again without `cursor`.",
    ),
    "cursor-mismatch": Code(
        400,
        "The cursor belongs to another list",
        "The filters or the order were changed between two pages.",
        "Keep the parameters while paging, or start again without `cursor`.",
    ),
    "unknown-parameter": Code(
        400,
        "There is no such parameter",
        "The query has a parameter that this path does not know. Ignoring it could show too much.",
        "Correct the name; `detail` lists the known ones.",
    ),
    "bad-parameter": Code(
        400,
        "A filter would filter nothing",
        "A filter has an empty value. Ignoring it would show or export all customers.",
        "Give it a value, or leave it out to get all customers.",
    ),
    "precondition-not-supported": Code(
        501,
        "The precondition is not supported here",
        "The request has a precondition that this path cannot check. Ignoring it could do something that you "
        "do not want, so nothing was done.",
        "Leave the header out. One customer takes If-Match, If-None-Match and If-Unmodified-Since; the "
        "operations of a batch have `version`.",
    ),
    "untrusted-host": Code(
        400,
        "The Host header is not one of this server",
        "Without API keys the server answers only this machine, by the names localhost, 127.0.0.1 and [::1].",
        "Use one of those names, or start with `custsvc serve --auth on` and send a key.",
    ),
    "unauthorized": Code(
        401,
        "An API key is needed",
        "No key was sent, or the one sent is unknown, expired or revoked.",
        "Send `Authorization: Bearer KEY`. `custsvc keys create NAME --role read` creates a key.",
    ),
    "forbidden": Code(
        403,
        "The API key may not do this",
        "The key's role is too weak: read < write < admin.",
        "Use a key with the role that `detail` names.",
    ),
    "not-found": Code(
        404,
        "There is no such thing",
        "The path does not exist, or there never was a customer with this id.",
        "Look the path up at /api/docs, and the customer with /api/customers/?q=",
    ),
    "customer-merged": Code(
        410,
        "The customer was merged into another one",
        "The customer turned out to be the same as another one, which took its values. Its history stays.",
        "Go on with the customer that `survivor` and the Link header name; or undo the merge by a POST to "
        "the `/unmerge` of that one.",
    ),
    "history-trimmed": Code(
        410,
        "The history begins later",
        "This state of the customer was replaced so long ago that it was dropped from the history.",
        "`begins_at` of the customer's history says where it begins. Older events may be in archive files: "
        "ask who runs this service.",
    ),
    "customer-deleted": Code(
        404,
        "The customer is deleted",
        "Somebody deleted the customer. All of its data is still there.",
        "POST to /api/customers/ID/restore restores it; its history shows who deleted it.",
    ),
    "method-not-allowed": Code(
        405,
        "The path does not know this method",
        "The path exists, but does something else.",
        "Use one of the methods in the header Allow.",
    ),
    "conflict": Code(
        409,
        "Somebody else changed it at the same time",
        "Too many writers changed the same thing at once, so this write gave up. Nothing was written.",
        "Send it again.",
    ),
    "version-mismatch": Code(
        412,
        "The customer is at another version",
        "Another user changed the customer between your read and your write. Nothing was written.",
        "Merge your change with `current`, the state now (`changed` names the fields that differ), and send "
        "it with its ETag in If-Match.",
    ),
    "idempotency-in-flight": Code(
        409,
        "The same request is being worked on",
        "An earlier request with this Idempotency-Key is not finished.",
        "Wait as long as Retry-After says and send it again: you get the answer of the first request.",
    ),
    "idempotency-mismatch": Code(
        422,
        "The idempotency key was used for another request",
        "Method, path, query or body differ from those of the first request with this Idempotency-Key.",
        "Use a new key for each new request, and an old key only to send the same request again.",
    ),
    "batch-undone": Code(
        424,
        "Another operation of the batch failed",
        "The batch is atomic and one of its operations failed, so none of them was done.",
        "Correct the operations with another status, and send the batch again.",
    ),
    "copy-behind": Code(
        504,
        "The copy is behind",
        "The copy does not have the change that X-Custsvc-Min-Position names yet.",
        "Ask again, with `Prefer: wait=N` to wait up to N seconds; or read from the system of record.",
    ),
    "read-only": Code(
        405,
        "This server only reads",
        "It serves a copy. A change written to a copy would be lost.",
        "Write to the server of the system of record.",
    ),
    "too-large": Code(
        413,
        "The body is too large",
        "The body is longer than this path accepts.",
        "Send less at a time. For many customers use /api/customers/import, which accepts much more.",
    ),
    "unsupported-media-type": Code(
        415,
        "The body's type is not supported",
        "The header Content-Type is missing, or names a type that this path does not read.",
        "Send one of the types in Accept-Post or Accept-Patch, and name it in Content-Type.",
    ),
    "if-match-required": Code(
        428,
        "If-Match is required",
        "This installation refuses writes that do not name the version they are based on.",
        "Read the customer and send its ETag in If-Match.",
    ),
    "import-refused": Code(
        400,
        "Rows of the import are wrong",
        "Some rows cannot be imported, so nothing was. `report` is the plan; `errors` names rows and fields.",
        "Correct the rows, or send the file with skip_errors=true to import the others.",
    ),
    "plan-changed": Code(
        409,
        "The plan has changed",
        "Customers in the plan were changed since it was made, or the file is another one. Nothing was "
        "imported.",
        "Look at a new plan (dry_run=true), and send its name in `plan`.",
    ),
    "rate-limited": Code(
        429,
        "Too many requests",
        "This API key, or this address where keys were refused, has used up its requests for the minute.",
        "Wait as long as Retry-After says. The RateLimit headers of each answer show how many are left.",
    ),
    "head-too-large": Code(
        431,
        "The head of the request is too long",
        "The address and the headers are longer than 16 KB together, or one that is read is longer than 2 KB"
        " (Cookie: 8 KB).",
        "Send fewer or shorter headers. Split a long search into several requests.",
    ),
    "body-timeout": Code(
        408,
        "The body did not arrive in time",
        "The request's head arrived, but its body did not arrive within the time limit.",
        "Send the body right after the head. On a slow connection, send less at a time.",
    ),
    "internal": Code(
        500,
        "Something went wrong on our side",
        "An error in custsvc. The log has it under this answer's `request_id`.",
        "Try again; if it happens again, report it with the lines of the log.",
    ),
    "too-many-streams": Code(
        503,
        "Too many streams and exports are open",
        "Event streams, exports and imports take long, so each process limits how many are open at once.",
        "Close some, or try again later. CUSTSVC_STREAMS sets the limit of a process.",
    ),
    "overloaded": Code(
        503,
        "The server is overloaded",
        "All threads were busy for as long as a request may wait, so nothing was done.",
        "Try again after the time in Retry-After. If it persists, check the database's load, or add"
        " processes: CUSTSVC_WORKERS. CUSTSVC_QUEUE_TIMEOUT sets how long a request waits.",
    ),
    "misconfigured": Code(
        503,
        "The server is not set up for this",
        "A setting, a package or a version of this installation does not fit. Nothing was done.",
        "Tell who runs this service: its log has the reason and the fix under this answer's `request_id`.",
    ),
    "dependency-down": Code(
        503,
        "A needed server does not answer",
        "`dependency` names the server: the database, Kafka or the schema registry. A write did not happen, "
        "or may be retried safely with its Idempotency-Key.",
        "Try again after Retry-After seconds. `custsvc doctor` shows what is wrong with the server.",
    ),
}
