"""
What sitio needs of the network and of its process: reactor, transports, timers.

In reading order:

  - C{process}: process-wide setup: reactor and garbage collector.
  - C{reactor}, C{transport}: Twisted's interfaces on uvloop.
  - C{splice}: long bodies, moved by the kernel.
  - C{deadlines}: one timer for many deadlines.
  - C{periodic}: a service that calls a function at a fixed interval.
  - C{listening}: a port that is opened at the start, or the start fails.
  - C{singleflight}: callers that ask at the same time share one call.
  - C{statemachine}: named states and an enforced table of transitions.
  - C{httpclient}: an HTTP client for sitio's own calls, by treq.
"""
