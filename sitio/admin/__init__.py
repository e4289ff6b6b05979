"""
The admin port: health, metrics, the live dashboard.

In reading order:

  - C{port}: listens, and makes the pages when the first request arrives.
  - C{pages}: the pages, and who may read them.
  - C{dashboard}: the live dashboard; C{page/} is what the browser loads.
  - C{events}: the dashboard's event stream.
  - C{health}: asks the upstream whether it is well.
  - C{redact}: removes secrets from what is shown.
"""
