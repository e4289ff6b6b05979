"""
HTTP messages and their bytes; no I/O.

In reading order:

  - C{message}: responses and L{Retry<sitio.http.message.Retry>}.
  - C{request}: a request, and what all messages share.
  - C{bodyfilters}: what changes a body on its way.
  - C{content}: what their bodies mean: codings, text, JSON.
  - C{codings}: decodes gzip, deflate, br and zstd.
  - C{lines}: field lines as bytes, and how one is found in them.
  - C{headers}: the fields of a message.
  - C{memo}: what was found out about short texts, bounded.
  - C{multidict}: a mapping with several values for a name, as of a query.
  - C{cookies}: reads cookies, and makes Set-Cookie.
  - C{grammar}: methods, tokens, field values, hosts.
  - C{claims}: request fields in which a proxy tells of its client.
  - C{forwarded}: the addresses of clients in them.
  - C{peer}: whom the certificate of a client names.
  - C{marks}: the mark by which a request that comes back is known.
  - C{requestids}: the id of a request, by which logs know it.
  - C{overrides}: request fields that replace method, path or host.
  - C{paths}: the ways in which services read a path.
  - C{requestpatterns}: which requests a service may take for one of a method and a path.
  - C{routes}: templates of paths.
  - C{requestmatch}: which of several routes a request takes.
  - C{errorfields}: what belongs to an error response whose body is replaced.
  - C{negotiation}: what an Accept field wants.
  - C{dates}: HTTP dates, read and written.
  - C{retryafter}: when a response wants the request again.
  - C{head}: parses heads.
  - C{limits}: the most bytes and fields that are accepted.
  - C{framing}: finds where heads and bodies end.
  - C{codec}: reads and writes requests and responses.
  - C{writer}: how messages are framed for whoever gets them.
  - C{addressing}: requests as one upstream gets them: Host, and what tells of the client.
  - C{caching}: what may be stored, for whom and for how long (RFC 9111).
  - C{failures}: the response that stands for an error.
"""
