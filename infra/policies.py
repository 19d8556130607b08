"""The table of rights (`infra.rights`) as the documents that S3, IAM and SQS understand. Pure.

`runfeed policies` prints and applies them, `infra/terraform` uses them.

S3 says "absent" only to those who may list a bucket, and "forbidden" to all others, even of one key. Roles look for
objects that are not there all the time, and so may strangers who follow the log, so both list whole buckets. A runner
lists nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.aws import Place
from infra.rights import INBOX, PROBE, PUBLIC, REFUSED_INBOX, ROLES, Grants
from schemas import keys

Document = dict[str, Any]

REFUSED_DAYS = 30
"""How long it is remembered that a file of the inbox was refused; if it is still there, it is then looked at again."""

RESUME_DAYS = 8
"""How long an upload in parts may rest; a grant holds for seven (`ingest.uploads`)."""

_READ = ("s3:GetObject",)
_WRITE = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
_PROBES = PROBE.rstrip("*")
_DELETE = ("s3:DeleteObject",)


@dataclass(frozen=True)
class Queue:
    """The SQS queue that S3 tells of new objects in the inbox, and the account that owns the private bucket."""

    arn: str
    account: str


# --- the buckets ---


def public_policy(public: Place) -> Document:
    """Everybody may read and list; nobody is told to write here."""
    return _policy(
        _statement("EverybodyReads", _READ, _keys(public, PUBLIC), Principal="*"),
        _statement("EverybodyLists", ("s3:ListBucket",), [_bucket(public)], Principal="*", **_listing(public)),
    )


def private_policy(private: Place, runners: Mapping[str, str], *, plain_http: bool = False) -> Document | None:
    """Nothing over plain HTTP, and a folder of the inbox for each runner of another account: name → its principal.

    None if that leaves nothing to say. `plain_http` is for stores that speak it only: there the first rule would shut
    out everybody, the operator too.
    """
    statements = [
        _statement(
            f"Inbox{number}",
            ("s3:PutObject",),
            _keys(private, [f"{INBOX}{keys.checked_project(name, 'runner')}/*"]),
            Principal={"AWS": arn},
        )
        for number, (name, arn) in enumerate(sorted(runners.items()), 1)
    ]
    if not plain_http:
        encrypted = {"Bool": {"aws:SecureTransport": "false"}}
        resources = [_bucket(private), *_keys(private, ["*"])]
        statements.append(
            _statement("OnlyHttps", ("s3:*",), resources, Effect="Deny", Principal="*", Condition=encrypted)
        )
    return _policy(*statements) if statements else None


def public_cors() -> Document:
    """Web pages anywhere may read, also ranges, and see what ranges and caches need."""
    return {
        "CORSRules": [
            {
                "AllowedMethods": ["GET", "HEAD"],
                "AllowedOrigins": ["*"],
                "AllowedHeaders": ["If-Modified-Since", "If-None-Match", "If-Range", "Range"],
                "ExposeHeaders": ["Accept-Ranges", "Content-Length", "Content-Range", "ETag"],
                "MaxAgeSeconds": 86400,
            }
        ]
    }


def lifecycle(place: Place, expiring: Mapping[str, int] | None = None) -> Document:
    """Uploads in parts that were never completed go in the end; what lies below `expiring`'s prefixes goes by its age.

    Never give the public bucket another rule that expires: its objects are the truth.
    """
    rules: list[Document] = [
        {
            "ID": "abort-incomplete-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": place.prefix},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": RESUME_DAYS},
        }
    ]
    rules += [
        {
            "ID": f"expire-{prefix.rstrip('/')}",
            "Status": "Enabled",
            "Filter": {"Prefix": place.prefix + prefix},
            "Expiration": {"Days": days},
        }
        for prefix, days in (expiring or {}).items()
    ]
    return {"Rules": rules}


# --- the roles ---


def role_policy(role: str, public: Place, private: Place, queue: Queue | None = None) -> Document:
    """The identity policy of a process of `role`: allowed is what the table says and nothing else."""
    wanted = ROLES[role]
    statements = _statements("Public", public, wanted.public)
    if wanted.private is not None:
        statements += _statements("Private", private, wanted.private)
    if role == "ingest" and queue is not None:
        verbs = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")
        statements.append(_statement("InboxEvents", verbs, [queue.arn]))
    return _policy(*statements)


def runner_policy(private: Place) -> Document:
    """One policy for all runners that are users of the account: put objects into the folder of one's own name.

    Not even a multipart upload may be listed or aborted; the lifecycle rule removes what was left.
    """
    return _policy(_statement("OwnInbox", ("s3:PutObject",), _keys(private, [INBOX + "${aws:username}/*"])))


# --- events ---


def inbox_notifications(private: Place, queue: Queue) -> Document:
    """S3 tells `queue` of every new object in the inbox."""
    rule = {"Name": "prefix", "Value": private.prefix + INBOX}
    return {
        "QueueConfigurations": [
            {
                "Id": "inbox",
                "QueueArn": queue.arn,
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [rule]}},
            }
        ]
    }


def queue_policy(private: Place, queue: Queue) -> Document:
    """Only S3, and only for our bucket, may send to `queue`."""
    condition = {"ArnLike": {"aws:SourceArn": _bucket(private)}, "StringEquals": {"aws:SourceAccount": queue.account}}
    sender = {"Service": "s3.amazonaws.com"}
    return _policy(_statement("InboxEvents", ("sqs:SendMessage",), [queue.arn], Principal=sender, Condition=condition))


# --- all of them ---


def documents(
    public: Place,
    private: Place,
    *,
    queue: Queue | None = None,
    runners: Mapping[str, str] | None = None,
    plain_http: bool = False,
) -> dict[str, Document]:
    """Every document by the name under which `runfeed policies` shows it."""
    found: dict[str, Document | None] = {
        "public-policy": public_policy(public),
        "public-cors": public_cors(),
        "public-lifecycle": lifecycle(public, {_PROBES: 1}),
        "private-policy": private_policy(private, runners or {}, plain_http=plain_http),
        "private-lifecycle": lifecycle(private, {_PROBES: 1, REFUSED_INBOX: REFUSED_DAYS}),
        "runner": runner_policy(private),
        **{f"role-{role}": role_policy(role, public, private, queue) for role in ROLES},
    }
    if queue is not None:
        found["private-notifications"] = inbox_notifications(private, queue)
        found["queue-policy"] = queue_policy(private, queue)
    return {name: document for name, document in found.items() if document is not None}


def seaweedfs_identities(policies: Mapping[str, Document], secrets: Mapping[str, tuple[str, str]]) -> Document:
    """SeaweedFS's `-s3.config`: a user for each name in `secrets` (name → access key, secret), with its document.

    A name that is no role is a runner's. `admin` may do everything, also what no policy can grant.
    """
    identities: list[Document] = []
    for name, (access_key, secret) in secrets.items():
        known = "runner" if f"role-{name}" not in policies else f"role-{name}"
        rights = {"actions": ["Admin"]} if name == "admin" else {"policyNames": [known]}
        credentials = [{"accessKey": access_key, "secretKey": secret}]
        identities.append({"name": keys.checked_project(name, "runner"), "credentials": credentials} | rights)
    used = sorted({policy for one in identities for policy in one.get("policyNames", ())})
    return {"identities": identities, "policies": [{"name": name, "content": _text(policies[name])} for name in used]}


def _bucket(place: Place) -> str:
    return f"arn:aws:s3:::{place.bucket}"


def _keys(place: Place, patterns: Iterable[str]) -> list[str]:
    return [f"{_bucket(place)}/{place.prefix}{pattern}" for pattern in patterns]


def _statements(side: str, place: Place, grants: Grants) -> list[Document]:
    read = tuple(dict.fromkeys((*grants.read, *grants.write)))
    verbs = {"Reads": (_READ, read), "Writes": (_WRITE, grants.write), "Deletes": (_DELETE, grants.delete)}
    return [
        _statement(f"{side}Lists", ("s3:ListBucket",), [_bucket(place)], **_listing(place)),
        *(_statement(side + name, actions, _keys(place, keys)) for name, (actions, keys) in verbs.items() if keys),
    ]


def _listing(place: Place) -> Document:
    """Where a bucket is shared with others, only our folder is listed. An absent key of ours is then "forbidden" to S3,
    so a folder suits stores that are less strict; on AWS take buckets of your own."""
    return {"Condition": {"StringLike": {"s3:prefix": [f"{place.prefix}*"]}}} if place.prefix else {}


def _statement(sid: str, actions: Iterable[str], resources: list[str], **more: Any) -> Document:
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resources} | more


def _policy(*statements: Document) -> Document:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _text(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))
