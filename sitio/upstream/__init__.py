"""
Upstreams, their endpoints, and the connections to these.

In reading order:

  - C{pool}: hands out connections to one endpoint, and bounds how many there are.
  - C{client}: L{ProxyClient<sitio.upstream.client.ProxyClient>}, one connection.
  - C{budget}: how many retries an upstream takes; C{retries}: what is configured of them.
  - C{uploadslots}: how many connections requests with incomplete bodies may hold.
  - C{fixed}: an upstream with one endpoint.
  - C{receivers}: the interfaces that a connection calls.
  - C{splicing}: moves the rest of a response's body in the kernel.
  - C{cluster}: an upstream of one or several endpoints.
  - C{endpoint}: one of them: its pool, its counts and its state.
  - C{balancer}: chooses the endpoint for a request.
  - C{identified}: connections that tell the upstream who the client is.
  - C{hosts}: the Host of requests.
  - C{hashkey}: the part of a request that consistent hashing uses.
  - C{ejection}: takes endpoints out of service whose requests fail.
  - C{health}: active health checks.
  - C{dnssettings}, C{discovery}: finds endpoints by DNS.
  - C{resolvers}: name servers and search list of this machine.
"""
