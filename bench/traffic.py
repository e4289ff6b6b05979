"""
The requests of the load, and the files that the service sends.

Varied traffic is what a service gets from browsers: a thousand pages of 200 bytes to
30 KB, asked for by Zipf's law; each request has a query, a cookie and an id that no other
has.  The service gives each response an ETag of its own.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

#: The path of varied traffic, below which the pages are.
PAGES = "/pages/"

#: How many pages there are, and the smallest and largest, in bytes.
PAGE_COUNT = 1000
SMALLEST, LARGEST = 200, 30_000

#: How many choices of a page are made, before they repeat.  Requests still differ then.
CHOICES = 8192

#: Other files of the service, and their sizes in bytes.
FILES = {"1k": 1024, "100m": 100_000_000}

#: Bytes of the error page; sitio's own is about as long.
PAGE_LENGTH = 2151

#: What stands for a request's page and for its id.
PATH, ID = "{path}", "{id}"

#: The fields of a browser, in its order.
BROWSER = f"""\
sec-ch-ua: "Chromium";v="142", "Not-A.Brand";v="99"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Linux"
Upgrade-Insecure-Requests: 1
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\
 Chrome/142.0.0.0 Safari/537.36
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
image/apng,*/*;q=0.8
Sec-Fetch-Site: same-origin
Sec-Fetch-Mode: navigate
Sec-Fetch-Dest: document
Referer: http://service.example/the/whole/page/before/this
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
X-Request-ID: {ID}
Cookie: session={ID}; theme=dark
"""


def template(host: str, path: str, varied: bool, close: bool, method: str, body: int) -> str:
    """A whole request, with L{PATH} and L{ID} where requests differ."""
    query = f"?q={ID}" if varied else ""
    lines = [f"{method} {PATH if varied else path}{query} HTTP/1.1", f"Host: {host}"]
    if close or varied:
        lines.append(f"Connection: {'close' if close else 'keep-alive'}")
    if varied:
        lines += BROWSER.splitlines()
    if body:
        lines.append(f"Content-Length: {body}")
    return "\r\n".join([*lines, "", "x" * body])


def choices() -> list[str]:
    """The paths of L{CHOICES} requests: page n is asked for n times less often than the first."""
    pages = range(PAGE_COUNT)
    weights = [1 / (each + 1) for each in pages]
    return [f"{PAGES}{each}" for each in random.Random(1).choices(pages, weights, k=CHOICES)]


def requests(form: str) -> Iterator[bytes]:
    """Requests without end, of a template."""
    seed = os.urandom(8).hex()
    for path, number in zip(cycle(choices()), count()):
        yield form.replace(PATH, path).replace(ID, f"{seed}{number:016x}").encode()


def size(page: int) -> int:
    """The bytes of a page; each stretch of pages has all sizes, spread evenly by order."""
    golden = (page + 1) * 0.6180339887498949 % 1
    return int(SMALLEST * (LARGEST / SMALLEST) ** golden)


def writeFiles(folder: Path) -> None:
    """Write C{www/}, what the service sends, and C{pages/404.html}, the proxies' page."""
    www = folder / "www"
    (www / PAGES.strip("/")).mkdir(parents=True)
    (folder / "pages").mkdir()
    text = b"What the service sends. " * (LARGEST // 24 + 1)
    for page in range(PAGE_COUNT):
        path = www / f"{PAGES[1:]}{page}"
        path.write_bytes(text[: size(page)])
        changed = 1_700_000_000 + page * 3607
        os.utime(path, (changed, changed))
    for name, length in FILES.items():
        with (www / name).open("wb") as file:
            file.write(text[:length])
            file.truncate(length)
    (www / "json").write_text(document())
    page404 = b"<!DOCTYPE html><title>Not found</title><p>There is no such page here.</p>\n"
    page404 += b"<!--" + b"-" * (PAGE_LENGTH - len(page404) - 7) + b"-->"
    (folder / "pages/404.html").write_bytes(page404)
    (folder / "choices.txt").write_text("\n".join(choices()) + "\n")


def document() -> str:
    """The JSON of the service: a page of a list, of about 2 KB."""
    items = [
        {"id": each, "name": f"item {each}", "price": each * 1.25, "tags": ["new", "garden"]}
        for each in range(25)
    ]
    return json.dumps({"items": items, "total": 1250, "next": "/json?page=2"})
