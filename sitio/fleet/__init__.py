"""
Reports to a dashboard that shows many sidecars.

In reading order:

  - C{address}: where the dashboard is.
  - C{reporter}: posts what it should know.
  - C{backlog}: entries that wait to be posted.
  - C{resources}: memory and CPU times of the pod.
"""
