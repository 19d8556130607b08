"""`runfeed policies`."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from infra.aws import Place, parse_place
from infra.bucket import is_key
from infra.policies import Queue, documents, seaweedfs_identities
from infra.settings import read_settings
from schemas.errors import Refused

SEAWEEDFS = "seaweedfs"
_SHORTEST_SECRET = 20
_QUEUE_ARN = re.compile(r"arn:aws[a-z-]*:sqs:[a-z0-9-]+:(\d{12}):[A-Za-z0-9_.-]+")
_KEY = re.compile(r"S3_([A-Z0-9_]+)_ACCESS_KEY")


@click.command()
@click.argument("name", required=False)
@click.option("--bucket", help="s3://name[/prefix] of the public bucket.  [default: the settings' bucket]")
@click.option("--private-bucket", help="s3://name[/prefix] of the private bucket.  [default: the settings']")
@click.option("--queue-arn", help="ARN of the SQS queue that is told of objects in the inbox.")
@click.option(
    "--runner", multiple=True, metavar="NAME=ARN", help="A runner of another account, and its principal's ARN."
)
@click.option("--plain-http", is_flag=True, help="The store speaks plain HTTP only: do not demand HTTPS.")
@click.option(
    "--apply", "applying", is_flag=True, help="Create the buckets if absent, and give them what belongs to them."
)
@click.option(
    "--templates",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the documents there as Terraform's templates, names left open.",
)
def policies(
    *,
    name: str | None,
    bucket: str | None,
    private_bucket: str | None,
    queue_arn: str | None,
    runner: tuple[str, ...],
    plain_http: bool,
    applying: bool,
    templates: Path | None,
) -> None:
    """Show who may do what in the buckets, as JSON for S3, IAM and SQS: all documents, or the one called NAME.

    \b
    Examples:
      runfeed policies --bucket s3://results --private-bucket s3://results-private
      runfeed policies role-work
      aws iam put-role-policy --role-name work --policy-name runfeed --policy-document "$(runfeed policies role-work)"
      runfeed policies --apply

    `role-<role>` is for a process of that role, `runner` for those who upload into the inbox. `seaweedfs` is a file of
    identities for SeaweedFS (-s3.config), with keys from S3_<NAME>_ACCESS_KEY and S3_<NAME>_SECRET_KEY in the
    environment: NAME is a role, ADMIN, or else a runner.

    Without --apply nothing is connected to. It replaces a bucket's policy, CORS, lifecycle and notification rules.
    """
    if templates is not None:
        for document, text in terraform_templates().items():
            (templates / f"{document}.json").write_text(text)
        return
    settings = read_settings(os.environ, {"bucket": bucket, "private_bucket": private_bucket})
    public, private = _place(settings.bucket, "bucket"), _place(settings.private_bucket, "private_bucket")
    found = documents(
        public, private, queue=_queue(queue_arn), runners=dict(map(_runner, runner)), plain_http=plain_http
    )
    if applying:
        from infra.policies_apply import apply_policies

        for what, result in apply_policies(found, public, private, os.environ).items():
            click.echo(f"{what}: {result}")
        return
    if name == SEAWEEDFS:
        _show(seaweedfs_identities(found, store_keys(os.environ)))
    elif name is None:
        _show(found)
    elif name in found:
        _show(found[name])
    else:
        raise Refused("policies", "one of " + ", ".join([*found, SEAWEEDFS]), repr(name), status=422)


def terraform_templates() -> dict[str, str]:
    """The documents' text by name, for `templatefile` with public_bucket, private_bucket, queue_arn and account."""
    found = documents(Place("${public_bucket}"), Place("${private_bucket}"), queue=Queue("${queue_arn}", "${account}"))
    return {name: json.dumps(one, indent=2).replace("${aws:", "$${aws:") + "\n" for name, one in found.items()}


def store_keys(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Name → access key, secret, of what `S3_<NAME>_ACCESS_KEY` and `S3_<NAME>_SECRET_KEY` say; Refused if short."""
    found = {}
    for variable, access_key in sorted(environ.items()):
        match = _KEY.fullmatch(variable)
        if match is None or not access_key:
            continue
        other = f"S3_{match[1]}_SECRET_KEY"
        secret = environ.get(other, "")
        if len(secret) < _SHORTEST_SECRET:
            raise Refused(other, f"a secret of at least {_SHORTEST_SECRET} characters", f"{len(secret)}", status=422)
        found[match[1].lower().replace("_", "-")] = access_key, secret
    if not found:
        raise Refused("environment", "S3_<NAME>_ACCESS_KEY and S3_<NAME>_SECRET_KEY", "none", status=422)
    return found


def _place(url: str, where: str) -> Place:
    place = parse_place(url, where)
    if place.prefix and not is_key(place.prefix.rstrip("/")):  # a wildcard in it would open all else
        raise Refused(where, "s3://bucket or s3://bucket/prefix", repr(url[:200]), status=422)
    return place


def _queue(arn: str | None) -> Queue | None:
    if arn is None:
        return None
    match = _QUEUE_ARN.fullmatch(arn)
    if match is None:
        raise Refused("--queue-arn", "arn:aws:sqs:<region>:<account>:<name>", repr(arn[:200]), status=422)
    return Queue(arn, match[1])


def _runner(text: str) -> tuple[str, str]:
    name, _, arn = text.partition("=")
    if not arn.startswith("arn:"):
        raise Refused("--runner", "NAME=ARN", repr(text[:200]), status=422)
    return name, arn


def _show(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))
