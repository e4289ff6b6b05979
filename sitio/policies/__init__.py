"""
The policies that come with sitio.

Each module holds one policy and its options:

  - C{errorpage}: replaces error responses by a page.
  - C{lastgood}: masks a failure with the last good response.
  - C{retry}: sends a request again after a failure, where that is safe.
  - C{headers}: adds, sets and removes fields of requests and responses; C{headerchanges}:
    what may be shown of that.
  - C{deny}: refuses requests by method and path.
  - C{allow}: lets only some clients in, by certificate or address.
  - C{token}: adds a token from a file to requests.
"""
