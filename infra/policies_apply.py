"""Gives a store the documents of `infra.policies` that belong to buckets, in place of those it had."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from infra.aws import Place, boto_errors, client_options, config_options
from infra.policies import Document

_ABSENT_FEATURE = frozenset({"NotImplemented", "MethodNotAllowed", "BucketAlreadyOwnedByYou"})
"""What stores answer to a request that they do not know; SeaweedFS takes one about notifications for a new bucket."""

_THERE = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


def apply_policies(
    documents: Mapping[str, Document], public: Place, private: Place, environ: Mapping[str, str]
) -> dict[str, str]:
    """Create both buckets where they are absent, then say to each what `documents` say of it: `applied` or
    `not supported` by what it was about. The keys in `environ` must be allowed to do so.

    Raises Unavailable for whatever else the store answers; then apply again.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    def told(call: Callable[[], Any], tolerated: frozenset[str]) -> bool:
        with boto_errors(what):
            try:
                call()
            except ClientError as error:
                if error.response["Error"]["Code"] in tolerated:
                    return False
                raise
        return True

    options = client_options(environ)
    client = boto3.client("s3", config=Config(**config_options(options)), **options)
    found: dict[str, str] = {}
    try:
        for place in (public, private):
            what = f"s3://{place.bucket}"
            if not told(partial(client.head_bucket, Bucket=place.bucket), frozenset({"404", "NoSuchBucket"})):
                told(partial(client.create_bucket, **_new_bucket(place, client.meta.region_name)), _THERE)
        for what, call in _calls(client, documents, public, private).items():
            found[what] = "applied" if told(call, _ABSENT_FEATURE) else "not supported"
    finally:
        client.close()
    return found


def _new_bucket(place: Place, region: str) -> dict[str, Any]:
    elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region != "us-east-1" else {}
    return {"Bucket": place.bucket} | elsewhere


def _calls(
    client: Any, documents: Mapping[str, Document], public: Place, private: Place
) -> dict[str, Callable[[], Any]]:
    """What to do, in order, by what it is about. S3 refuses a public policy until the bucket may have one."""
    calls: dict[str, Callable[[], Any]] = {}
    for side, place in (("public", public), ("private", private)):
        closed = side == "private"
        block = {"BlockPublicAcls": True, "IgnorePublicAcls": True}
        block |= {"BlockPublicPolicy": closed, "RestrictPublicBuckets": closed}
        calls[f"{side}-access-block"] = partial(
            client.put_public_access_block, Bucket=place.bucket, PublicAccessBlockConfiguration=block
        )
        for name, verb, argument in (
            ("policy", client.put_bucket_policy, "Policy"),
            ("cors", client.put_bucket_cors, "CORSConfiguration"),
            ("lifecycle", client.put_bucket_lifecycle_configuration, "LifecycleConfiguration"),
            ("notifications", client.put_bucket_notification_configuration, "NotificationConfiguration"),
        ):
            document = documents.get(f"{side}-{name}")
            if document is not None:
                value = json.dumps(document) if name == "policy" else document
                calls[f"{side}-{name}"] = partial(verb, Bucket=place.bucket, **{argument: value})
    return calls
