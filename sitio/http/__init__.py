"""
HTTP messages and their bytes; no I/O.

In reading order:

  - C{grammar}: methods, tokens, field values, hosts.
  - C{dates}: HTTP dates, read and written.
  - C{message}: requests, responses and L{Retry<sitio.http.message.Retry>}.
  - C{headers}: the fields of a message.
  - C{head}: what the bytes of a head say.
  - C{framing}: where a head and a body end.
  - C{codec}: readers of requests and responses, and writers of both.
  - C{caching}: what may be stored, for whom and for how long (RFC 9111).
  - C{failures}: the response that stands for an error.
"""
