"""
Network and process: reactor, transports, timers, HTTP client.

In reading order:

  - C{process}: process-wide setup: reactor, clock, lookups, codecs.
  - C{collector}: when the garbage collector runs.
  - C{signals}: what a process does at each signal.
  - C{titles}: the names of worker processes.
  - C{descriptors}: file descriptors: how many there may be, and whether any are left.
  - C{memory}: gives free memory back to the system.
  - C{reactor}: a Twisted reactor on uvloop; C{ports} and C{connectors} are its
    listening ports and its outgoing connections.
  - C{lookups}: name lookups; C{threads}: calls that may block, in threads of their own.
  - C{transport}: one connection; C{consumer} and C{socketoptions} are parts of it.
  - C{lastread}: reads what a peer has sent before a write to it failed.
  - C{splice}: moves long bodies in the kernel.
  - C{flow}: flow control that both halves of the proxy share, and turns of the reactor;
    C{records} bounds the TLS records of a turn.
  - C{deadlines}: one timer for many deadlines.
  - C{loglimit}: peers cause few log lines.
  - C{watching}: calls back when the content of files has changed.
  - C{periodic}: a service that calls a function at a fixed interval.
  - C{turns}: long computations, in turns of the reactor.
  - C{datagrams}: UDP ports that log nothing.
  - C{descriptions}: endpoint descriptions, and what is wrong with them in words.
  - C{endpoints}: the ports that descriptions stand for; C{proxyprotocol} reads the
    headers of C{haproxy:} ports, and C{tls} is the TLS of C{ssl:} ports.
  - C{proxyheader}: writes the headers of the PROXY protocol, for upstreams.
  - C{tlstransport}: Twisted's TLS with a C{recordlayer} that costs less.
  - C{tlssettings}: the settings of TLS from files; C{certificates} reads the files,
    C{tlscontexts} makes OpenSSL's contexts of them, C{tlsfiles} makes these anew when the
    files change.  C{tlsclient} connects to an upstream with them.
  - C{handshake}: connecting by TLS takes until the end of the handshake.
  - C{room}: how many connections ports may have open; C{accepting}: ports that pause.
  - C{families}: ports of both families of IP.
  - C{listening}: a port that is opened at the start, or the start fails.
  - C{background}: a start in the background that fails is told to the terminal.
  - C{loops}: an upstream that is sitio's own port.
  - C{portreactor}: what an endpoint description leaves open gets sitio's values.
  - C{unixsockets}: which files of UNIX sockets can be replaced.
  - C{singleflight}: callers that ask at the same time share one call.
  - C{statemachine}: named states and an enforced table of transitions.
  - C{httpclient}: an HTTP client for sitio's own calls, by treq.
"""
