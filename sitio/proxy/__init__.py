"""
The path of a request.

In reading order:

  - C{server}: L{ProxyServer<sitio.proxy.server.ProxyServer>}, one connection of a client.
  - C{exchange}: one request, from its head to the last byte of its response.
  - C{context}: what all exchanges of one proxy share.
"""
