"""Presigned links: whoever has one may write one object, or one part of it, and nothing else, for a while. With boto3.

Links are signed for the address at which runners reach storage, which may be another than ours. Signing asks nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from infra.aws import boto_errors, client_options, config_options, parse_place
from schemas.errors import Unavailable

WRITE_ONCE = {"If-None-Match": "*"}
"""Signed into a link, so it must be sent with it: the second PUT is answered 412."""


@dataclass(frozen=True)
class UploadedPart:
    """A part that storage has, of an upload in parts that is not finished."""

    number: int
    size_bytes: int
    etag: str


class Links:
    """Makes links to objects of the private bucket (`s3://bucket[/prefix]`), and finishes what was sent in parts."""

    def __init__(self, private: str, endpoint: str, environ: Mapping[str, str]) -> None:
        self._place = parse_place(private, "private_bucket")
        session = boto3.session.Session()
        self._storage = _client(session, environ)
        self._signer = _client(session, environ, endpoint)

    def whole(self, key: str, size_bytes: int, seconds: int) -> str:
        """A link for one PUT of exactly `size_bytes`, with the headers `WRITE_ONCE`."""
        return self._signed("put_object", key, seconds, ContentLength=size_bytes, IfNoneMatch="*")

    def part(self, key: str, upload: str, number: int, size_bytes: int, seconds: int) -> str:
        """A link for PUTs of one part, from 1."""
        return self._signed("upload_part", key, seconds, UploadId=upload, PartNumber=number, ContentLength=size_bytes)

    def _signed(self, verb: str, key: str, seconds: int, **more: Any) -> str:
        parameters = {**self._address(key), **more}
        with boto_errors(key):
            url: str = self._signer.generate_presigned_url(verb, Params=parameters, ExpiresIn=seconds)
        return url

    def begin(self, key: str) -> str:
        """Begin an upload in parts: its id."""
        with boto_errors(key):
            return str(self._storage.create_multipart_upload(**self._address(key))["UploadId"])

    def parts(self, key: str, upload: str) -> list[UploadedPart]:
        """What has come of it, by number; FileNotFoundError if it is finished, aborted or unknown."""
        with boto_errors(key):
            pages = self._storage.get_paginator("list_parts").paginate(**self._address(key), UploadId=upload)
            return [
                UploadedPart(part["PartNumber"], part["Size"], part["ETag"])
                for page in pages
                for part in page.get("Parts", [])
            ]

    def finish(self, key: str, upload: str, parts: list[UploadedPart]) -> None:
        """Make one object of the parts. Fine if it is there already; FileNotFoundError if the upload is unknown."""
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        with boto_errors(key):
            answer = self._storage.complete_multipart_upload(
                **self._address(key), UploadId=upload, MultipartUpload={"Parts": listed}
            )
        if "ETag" not in answer:
            raise Unavailable(f"{key}: storage did not say that it finished the upload")

    def abort(self, key: str, upload: str) -> None:
        """Forget the parts; fine if there are none."""
        try:
            with boto_errors(key):
                self._storage.abort_multipart_upload(**self._address(key), UploadId=upload)
        except FileNotFoundError:
            return

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self._place.bucket, "Key": self._place.full(key)}


def _client(session: Any, environ: Mapping[str, str], endpoint: str = "") -> Any:
    options = client_options(environ, endpoint=endpoint)
    # Else boto wants a CRC of a body that it will never see.
    config = Config(request_checksum_calculation="when_required", **config_options(options))
    return session.client("s3", config=config, **options)
