"""
Reports to a fleet dashboard, which shows many sidecars on one page.

In reading order:

  - C{address}: the address of the fleet dashboard.
  - C{reporter}: posts metrics to it.
  - C{backlog}: the requests that are not posted yet.
  - C{resources}: memory and CPU times of the pod.
"""
