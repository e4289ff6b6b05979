"""
Pods that really run: the image is built, the manifests are played, and clients
ask through the published port.  C{make e2e} runs all of it.

  - L{e2e.runtime}: what builds images and plays Pods on this machine
  - L{e2e.kubelet}: as much of a kubelet as it takes, for a plain docker or podman
  - L{e2e.manifests}: the manifests, to be played as they are or with a change
  - L{e2e.prometheus}: a real Prometheus
  - C{slow.py}: a service that takes its time, run within a Pod
  - C{test_*.py}: the promises
"""
