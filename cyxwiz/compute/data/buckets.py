"""S3: what a bucket holds, and signed addresses of it, by botocore. The bytes come over `web` like any others."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.compute.data.web import Cut
from cyxwiz.domain.errors import Code, CyxError, forbidden

SIGNED_SECONDS = 3600
MAX_OBJECTS = 100_000


@dataclass(frozen=True, slots=True)
class Object:
    key: str
    size: int
    etag: str


class Bucket:
    """Any bucket that the settings allow; called from threads."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._made: Any = None
        self._lock = threading.Lock()

    def objects(self, uri: str, bucket: str, key: str) -> list[Object]:
        """The object of that key; else all whose keys lie below it, sorted.

        Raises:
            CyxError: FORBIDDEN, NOT_FOUND, or UNAVAILABLE without botocore.
            Cut: the endpoint can't be reached.
        """
        settings = self._settings
        if settings.s3_access_key and bucket not in settings.s3_buckets and "*" not in settings.s3_buckets:
            raise forbidden(
                f"The dataset {uri}: jobs may not read the bucket {bucket} with this node's keys; its owner may list "
                "it in node.s3_buckets.",
                uri=uri,
            )
        client = self._client(uri)
        from botocore import exceptions

        try:
            if key and not key.endswith("/"):
                try:
                    head = client.head_object(Bucket=bucket, Key=key)
                    return [Object(key, int(head["ContentLength"]), str(head["ETag"]))]
                except exceptions.ClientError as error:
                    if _status(error) != 404:
                        raise
            prefix = f"{key.rstrip('/')}/" if key else ""
            found: list[Object] = []
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for each in page.get("Contents", ()):
                    if not each["Key"].endswith("/"):
                        found.append(Object(each["Key"], int(each["Size"]), str(each["ETag"])))
                if len(found) > MAX_OBJECTS:
                    break
        except exceptions.ClientError as error:
            status = _status(error)
            if status == 429 or status >= 500:
                raise Cut(f"the endpoint answers {status}") from None
            code = Code.NOT_FOUND if status == 404 else Code.FORBIDDEN
            raise CyxError(code, f"The dataset {uri}: {str(error)[:300]}.", {"uri": uri}) from None
        except exceptions.BotoCoreError as error:
            raise Cut(str(error)[:300]) from None
        if not found:
            raise CyxError(Code.NOT_FOUND, f"The dataset {uri} is not there: no object has that key.", {"uri": uri})
        return sorted(found, key=lambda each: each.key)

    def url(self, bucket: str, key: str) -> str:
        """A signed address of an object, good for an hour; a plain one without keys."""
        return self._client("").generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=SIGNED_SECONDS
        )

    def _client(self, uri: str) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make(uri)
            return self._made

    def _make(self, uri: str) -> Any:
        try:
            import botocore
            import botocore.config
            import botocore.session
        except ImportError as error:
            raise CyxError(
                Code.UNSUPPORTED, f"The dataset {uri} needs botocore on the node: install cyxwiz[s3].", retryable=True
            ) from error
        settings = self._settings
        signed = bool(settings.s3_access_key)
        return botocore.session.Session().create_client(
            "s3",
            region_name=settings.s3_region,
            endpoint_url=settings.s3_endpoint or None,
            aws_access_key_id=settings.s3_access_key or None,
            aws_secret_access_key=settings.s3_secret_key or None,
            config=botocore.config.Config(
                signature_version="s3v4" if signed else botocore.UNSIGNED,
                s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
                connect_timeout=10,
                read_timeout=30,
                retries={"max_attempts": 2},
            ),
        )


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
