"""Signatures of requests by access key and secret: EC2's version 2, AWS version 4, S3's of a whole text.

Sources: AWS General Reference, "Signature Version 2" and "Signature Version 4"; S3 User Guide, "Signing and
authenticating REST requests".  Each has a time in it, which may be off by LIFE_SECONDS (OSSA-2020-003).
"""

import base64
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

LIFE_SECONDS = 900.0
_DIGESTS = {"HmacSHA256": "sha256", "HmacSHA1": "sha1"}


class BadSignature(Exception):
    """A signature that is malformed, wrong or too old; the text is for the log."""


def check_request(given: Mapping[str, Any], secret: str, now: float) -> None:
    """The signature of an EC2 request as its fields tell of it; raises BadSignature."""
    params = {str(k): str(v) for k, v in given["params"].items()}
    headers = {str(k).lower(): str(v) for k, v in given["headers"].items()}
    if "X-Amz-Algorithm" in params or headers.get("authorization", "").startswith("AWS4"):
        at, wanted = version_4(given, params, headers, secret)
    elif params.get("SignatureVersion") == "2":
        at, wanted = version_2(given, params, secret)
    else:
        raise BadSignature("neither version 2 nor version 4")
    check_time(at, now)
    if not any(hmac.compare_digest(one.encode(), given["signature"].encode()) for one in wanted):
        raise BadSignature("it does not fit")


def check_time(at: float, now: float) -> None:
    """Raise BadSignature for a time that is too far away."""
    if abs(at - now) > LIFE_SECONDS:
        raise BadSignature("it is too old, or of the future")


def hosts(host: str) -> list[str]:
    """A host as it was signed: some clients leave the port away."""
    bare = host.rpartition(":")[0]
    return [host, bare] if bare and host.rpartition(":")[2].isdigit() else [host]


def version_2(given: Mapping[str, Any], params: Mapping[str, str], secret: str) -> tuple[float, list[str]]:
    """(time, right signatures) of a version 2 request."""
    digest = _DIGESTS.get(params.get("SignatureMethod", ""))
    if digest is None:
        raise BadSignature("an unknown SignatureMethod")
    pairs = sorted((k, v) for k, v in params.items() if k != "Signature")
    query = "&".join(f"{quote(k, safe='-_~')}={quote(v, safe='-_~')}" for k, v in pairs)
    texts = (f"{given['verb']}\n{host}\n{given['path']}\n{query}" for host in hosts(given["host"]))
    keys = secret.encode()
    signatures = [base64.b64encode(hmac.digest(keys, t.encode(), digest)).decode() for t in texts]
    return moment(params.get("Timestamp") or params.get("Expires") or ""), signatures


def moment(text: str) -> float:
    """Seconds since the epoch of ISO 8601 (with or without dashes) or of an RFC 9110 date; raises BadSignature."""
    try:
        if re.fullmatch(r"\d{8}T\d{6}Z", text):
            return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if re.match(r"\d{4}-", text):
            at = datetime.fromisoformat(text)
        else:
            at = parsedate_to_datetime(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        raise BadSignature(f"{text[:40]!r} is no time") from None


def version_4(
    given: Mapping[str, Any], params: Mapping[str, str], headers: Mapping[str, str], secret: str
) -> tuple[float, list[str]]:  # fmt: skip
    """(time, right signatures) of a version 4 request, signed in its headers or in its query."""
    fields = params
    if "X-Amz-Algorithm" not in params:
        found = re.findall(r"(Credential|SignedHeaders|Signature)=([^,\s]+)", headers["authorization"])
        fields = {f"X-Amz-{name}": value for name, value in found}
    credential, signed = fields.get("X-Amz-Credential", ""), fields.get("X-Amz-SignedHeaders", "")
    date = params.get("X-Amz-Date") or headers.get("x-amz-date") or headers.get("date") or ""
    scope = credential.partition("/")[2]
    if not date.startswith(scope.partition("/")[0]) or "host" not in signed.split(";"):
        raise BadSignature("date, scope and signed headers do not fit together")
    texts = []
    for host in hosts(given["host"]):
        whole = canonical(given, params, {**headers, "host": host}, signed)
        texts.append(f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{sha256(whole)}")
    return moment(date), [sign_4(secret, scope, text) for text in texts]


def canonical(
    given: Mapping[str, Any], params: Mapping[str, str], headers: Mapping[str, str], signed: str
) -> str:  # fmt: skip
    """The canonical request."""
    pairs = sorted((k, v) for k, v in params.items() if k != "X-Amz-Signature")
    query = "" if given["verb"].upper() == "POST" else "&".join(
        f"{quote(k, safe='-_~')}={quote(v, safe='-_~')}" for k, v in pairs
    )  # fmt: skip
    lines = "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in signed.split(";"))
    return "\n".join((given["verb"].upper(), given["path"], query, lines, signed, given["body_hash"]))


def sha256(text: str) -> str:
    """Its hexadecimal digest."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def sign_4(secret: str, scope: str, text: str) -> str:
    """The version 4 signature of a text under the key of a scope (DATE/REGION/SERVICE/aws4_request)."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def check_text(text: str, signature: str, secret: str, now: float) -> None:
    """The signature of a text that an S3 server was asked to trust; raises BadSignature."""
    lines = text.split("\n")
    if lines[0] == "AWS4-HMAC-SHA256" and len(lines) == 4:
        at, right = moment(lines[1]), sign_4(secret, lines[2], text)
        if not lines[1].startswith(lines[2].partition("/")[0]):
            raise BadSignature("date and scope do not fit together")
    else:
        at = time_of_version_2(lines, now)
        right = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()
    check_time(at, now)
    if not hmac.compare_digest(right.encode(), signature.encode()):
        raise BadSignature("it does not fit")


def time_of_version_2(lines: list[str], now: float) -> float:
    """When a text of S3's version 2 was signed: its date, or its x-amz-date, or its expiry."""
    dated = next((line.partition(":")[2] for line in lines if line.startswith("x-amz-date:")), "")
    if dated:
        return moment(dated)
    date = lines[3] if len(lines) > 3 else ""
    if not date.isdigit():
        return moment(date)
    expires = float(date[:12])
    if expires <= now:
        raise BadSignature("it has expired")
    return expires
