"""
The connections to the upstream.

In reading order:

  - C{pool}: hands out connections, and bounds how many there are.
  - C{client}: L{ProxyClient<sitio.upstream.client.ProxyClient>}, one connection.
  - C{receivers}: the interfaces that a connection calls.
  - C{splicing}: moves the rest of a response's body in the kernel.
"""
