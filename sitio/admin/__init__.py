"""
The admin port: health, metrics, the live dashboard.

In reading order:

  - C{port}: listens, and makes the pages when the first client connects.
  - C{pages}: the pages, and who may request them.
  - C{probes}: three of the pages, on a port for probes and Prometheus.
  - C{dashboard}: the live dashboard; C{page/} is what the browser loads.
  - C{channel}: a connection, with a bounded amount of work for each turn of the reactor.
  - C{pace}: bounds what the pages cost, however often they are asked for.
  - C{events}: the content of the dashboard's event stream.
  - C{health}: checks whether the upstream accepts requests.
"""
