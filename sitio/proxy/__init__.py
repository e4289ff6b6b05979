"""
The path of a request.

In reading order:

  - C{factory}: the client connections of one proxy.
  - C{server}: L{ProxyServer<sitio.proxy.server.ProxyServer>}, one connection of a client;
    C{leaving}: how it ends; C{securing}: how it begins with TLS.
  - C{exchange}: L{Exchange<sitio.proxy.exchange.Exchange>}, one request from its head to
    the last byte of its response.

Used only by some exchanges:

  - C{connecting}: which endpoint of its upstream an attempt uses, and how it gets a connection.
  - C{hedge}: two attempts that run beside each other.
  - C{upload}: a request body that streams.
  - C{bufferedrequest}: a request body that policies want whole.
  - C{heldresponse}: a response that policies decide about.
  - C{download}: a response body that streams; C{filters}: the body filters of policies.
  - C{lingering}: the rest of a request whose response has been sent.
  - C{tunnel}: two transports after an upgrade.

Rules:

  - C{retries}: when a request may be sent again.
  - C{timeouts}: how long an exchange may wait, and what happens on a timeout.
  - C{forwarding}: X-Forwarded fields, Forwarded, Via, Max-Forwards; C{trust}: whose claims are
    believed.

Foundations:

  - C{context}: the state shared by all exchanges of one proxy.
  - C{generation}: what is configured: routes, policies, upstreams, limits.
  - C{buffers}: counts what is buffered; C{unsent}: on a connection of a client.
  - C{visible}: the part of an exchange that policies and observers see.
  - C{waiting}: waits for one Deferred at a time.
  - C{downstream}, C{upstream}: the interfaces of the two halves, as an exchange uses them.
  - C{http1}: the client's side of an exchange over HTTP/1.1.
"""
