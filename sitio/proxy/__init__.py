"""
The path of a request.

In reading order:

  - C{factory}: the client connections of one proxy.
  - C{server}: L{ProxyServer<sitio.proxy.server.ProxyServer>}, one connection of a client.
  - C{exchange}: L{Exchange<sitio.proxy.exchange.Exchange>}, one request from its head to
    the last byte of its response.

What only some exchanges need:

  - C{upload}: a request body that streams.
  - C{heldresponse}: a response that policies look at.
  - C{download}: a response body that streams; C{filters}: what changes it on its way.
  - C{tunnel}: two transports after an upgrade.

Rules:

  - C{retries}: when a request may be sent again.
  - C{timeouts}: how long an exchange may wait, and what it means when nothing came.
  - C{forwarding}: X-Forwarded fields, Via, Max-Forwards.

What they stand on:

  - C{context}: what all exchanges of one proxy share.
  - C{visible}: what policies and observers see of an exchange.
  - C{waiting}: waiting for one Deferred at a time.
  - C{downstream}, C{upstream}: what an exchange needs of the two halves.
  - C{http1}: the client's side of the exchanges on a connection of HTTP/1.1.
"""
