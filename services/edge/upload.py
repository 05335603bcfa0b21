"""Receive a multipart form with one file, straight to disk. What the fields mean is in `params`, media in `media`.

Memory does not grow with the upload, and nothing in it is without a limit: its preamble, the number of parts, the
length of fields, silence, and the bytes of the file, which are counted as they come.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from itertools import islice
from typing import Protocol, cast
from urllib.parse import quote, unquote

from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

from services.common.errors import Reason, SttError
from services.edge.body import READ_BYTES, Body
from services.edge.errors import invalid
from services.edge.media.spool import SpoolFile
from services.edge.params import NAMES, gather, quoted
from services.edge.settings import EdgeSettings


class Hash(Protocol):
    """What takes a file in to tell it from others."""

    def update(self, data: bytes, /) -> None:
        """Take in the next bytes."""


_FORM_BYTES = 1024 * 1024
"""What everything but the file may take: 413 is certain where Content-Length is larger by this."""
_PREAMBLE_BYTES = 64 * 1024
_MAX_PARTS = 256
_FIELD_BYTES = 64 * 1024

_TRANSFER_ENCODINGS = ("binary", "8bit", "7bit", "base64")
_CLOSES = r"(?=\s*(?:;|$))"
_PARAMETER = re.compile(rf""";\s*([^\s=;]+)\s*=\s*("(?:[^"\\]|\\.)*"{_CLOSES}|".*?"{_CLOSES}|[^;]*)""", re.DOTALL)
"""Of a Content-Disposition: curl escapes quotes and backslashes in a quoted text, browsers only quotes, as %22."""
_MAX_PARAMETERS = 8

_WANTED = "Send the recording as multipart/form-data in a field named file."
_FORGED_BODY = b"[object FormData]"
"""What Node's own fetch sends when it is given a form of the `form-data` package."""
_FORGED = (
    "The body is the text [object FormData] instead of a form: Node's fetch does not know the form-data package. "
    "Use Node's built-in FormData with it, or the node-fetch package."
)


async def check_head(request: web.Request, settings: EdgeSettings, limit_bytes: int) -> None:
    """Refuse, before a body is read, what its head shows to be wrong: 400 for its type, 413 for its length.

    `limit_bytes` is what the file may have.
    """
    if request.content_length == len(_FORGED_BODY):
        text = await _body(request, settings).read_all()
        if text == _FORGED_BODY:
            raise invalid(_FORGED)
    if request.content_type != "multipart/form-data":
        raise invalid(f"The content type is {request.content_type!r}. {_WANTED}")
    if (request.content_length or 0) > limit_bytes + _FORM_BYTES:
        raise _too_large(limit_bytes)


async def receive_form(
    request: web.Request,
    settings: EdgeSettings,
    file: SpoolFile,
    limit_bytes: int,
    check: Callable[[Mapping[str, str]], object],
    digest: Hash | None = None,
) -> dict[str, str]:
    """Write the form's file to `file`, flushed, and return its text fields, those of the query where the form has none.

    Unknown ones are empty. The file may have `limit_bytes`. `check` is given the fields so far, first the query's, then
    whenever there is one more, so that it can raise before a long file is read; `digest` is given the file's bytes on
    the way.
    """
    fields = list(request.query.items())
    check(gather(fields))
    body = _body(request, settings)
    has_file = False
    try:
        # It reads nothing but what Body offers.
        reader = _FormReader(request.headers, cast(StreamReader, body))
        for _ in range(_MAX_PARTS):
            part = await reader.next()
            if part is None:
                break
            body.limit_bytes = limit_bytes + _FORM_BYTES
            body.too_large = _too_large(limit_bytes)
            if isinstance(part, MultipartReader):
                raise invalid("The form has a multipart field within it; send one recording in a field named file.")
            if part.name == "file":
                if has_file:
                    raise invalid("The form has two files; send one recording a request.")
                has_file = True
                await _spool(part, file, limit_bytes, digest)
            elif part.name:
                fields.append((part.name, await _text(part) if part.name in NAMES else ""))
                check(gather(fields))
        else:
            raise invalid(f"The form has more than {_MAX_PARTS} fields.")
    except (ValueError, RuntimeError, HttpProcessingError):
        raise invalid(f"The form is damaged or cut off. {_WANTED}") from None
    if not has_file:
        raise invalid(f"The form has no file. {_WANTED}")
    await file.flush()
    return gather(fields)


class _FormReader(MultipartReader):
    """A form whose fields may have any name; aiohttp loses those that stand beside a semicolon in a file's name."""

    async def fetch_next_part(self) -> MultipartReader | BodyPartReader:
        """Return the next part, its Content-Disposition as aiohttp reads it."""
        part = await super().fetch_next_part()
        headers = CIMultiDict(part.headers)
        name = _field_name(headers.popall(hdrs.CONTENT_DISPOSITION, ()))
        headers[hdrs.CONTENT_DISPOSITION] = f"form-data; name*=UTF-8''{quote(name, safe='', errors='replace')}"
        part.headers = CIMultiDictProxy(headers)
        return part


def _field_name(dispositions: Iterable[str]) -> str:
    """Return the name that a part has by its headers, "" without one."""
    given: dict[str, str] = {}
    for disposition in dispositions:
        for found in islice(_PARAMETER.finditer(disposition), _MAX_PARAMETERS):
            given.setdefault(found[1].lower(), found[2].strip())
    if (name := given.get("name")) is not None:
        return re.sub(r'\\(["\\])', r"\1", name.removeprefix('"').removesuffix('"'))
    return unquote(given.get("name*", "").strip('"').rpartition("'")[2])


async def _content(part: BodyPartReader) -> AsyncIterator[bytes]:
    encoding = part.headers.get("Content-Transfer-Encoding", "binary")
    if encoding.lower() not in _TRANSFER_ENCODINGS:
        raise invalid(
            f"The field {part.name} has Content-Transfer-Encoding {quoted(encoding)}: send it as it is, or as base64."
        )
    while not part.at_eof():
        yield bytes(part.decode(await part.read_chunk(READ_BYTES)))


async def _spool(part: BodyPartReader, file: SpoolFile, limit_bytes: int, digest: Hash | None) -> None:
    async for chunk in _content(part):
        await file.write(chunk)
        if digest is not None:
            digest.update(chunk)
        if file.size_bytes > limit_bytes:
            raise _too_large(limit_bytes)


async def _text(part: BodyPartReader) -> str:
    value = bytearray()
    async for chunk in _content(part):
        value += chunk
        if len(value) > _FIELD_BYTES:
            raise invalid(f"The field {part.name} is longer than {_FIELD_BYTES:,} bytes.")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise invalid(f"The field {part.name} is not UTF-8.") from None


def _body(request: web.Request, settings: EdgeSettings) -> Body:
    too_large = invalid(f"The form does not begin where its boundary says. {_WANTED}")
    return Body(request, settings.body_idle_s, settings.min_body_rate, _PREAMBLE_BYTES, too_large)


def _too_large(limit_bytes: int) -> SttError:
    return SttError(Reason.TOO_LARGE, f"The file is larger than {limit_bytes / (1024 * 1024):g} MB, the limit.")
