"""The two buckets that the settings name."""

from collections.abc import Mapping

from infra.bucket import Bucket, Buckets
from infra.folder import FolderBucket
from infra.settings import Settings
from schemas.errors import Refused, Unavailable


def open_buckets(settings: Settings, environ: Mapping[str, str]) -> Buckets:
    """Folders below the data folder, or S3 where `bucket` and `private_bucket` say so.

    `environ` is where S3's keys and endpoint come from. Raises Refused for settings that do not fit, or for a store
    that lacks conditional writes, and Unavailable for one that cannot be reached or written to.
    """
    if not settings.bucket:
        return Buckets(FolderBucket(settings.data / "public"), FolderBucket(settings.data / "private"))
    if not settings.private_bucket:
        raise Refused(
            "private_bucket", "a second bucket: nothing private may lie in the public one", "none", status=422
        )
    public, private = (f"{url.rstrip('/')}/" for url in (settings.bucket, settings.private_bucket))
    if public.startswith(private) or private.startswith(public):
        raise Refused(
            "private_bucket", "another bucket, or a folder beside the public one", settings.private_bucket, status=422
        )
    return Buckets(_open_s3(settings.bucket, environ), _open_s3(settings.private_bucket, environ))


def open_public(settings: Settings, environ: Mapping[str, str]) -> Bucket:
    """The public bucket for one who only reads: its keys need no right to write, so nothing is tried."""
    if not settings.bucket:
        return FolderBucket(settings.data / "public")
    from infra.s3 import open_s3

    return open_s3(settings.bucket, environ)


def _open_s3(url: str, environ: Mapping[str, str]) -> Bucket:
    from infra.s3 import open_s3

    bucket = open_s3(url, environ)
    try:
        bucket.check_conditional_writes()
    except Unavailable as error:
        raise Unavailable(f"{url}: cannot be written to: {error}") from error
    return bucket
