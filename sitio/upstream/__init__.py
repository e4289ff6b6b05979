"""
The connections to the upstream.

In reading order:

  - C{pool}: hands out connections, and bounds how many there are.
  - C{client}: L{ProxyClient<sitio.upstream.client.ProxyClient>}, one connection.
  - C{receivers}: what a connection calls.
  - C{splicing}: the rest of a response's body, moved by the kernel.
"""
