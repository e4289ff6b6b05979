"""
Tests of real Pods: they build the images, run the manifests, and send requests to
the published port.  C{make e2e} runs them.

  - L{e2e.runtime}: builds images and runs Pods on this machine
  - L{e2e.kubelet}: the parts of a kubelet that a plain docker or podman needs
  - L{e2e.configmaps}: writes the files of a ConfigMap as a kubelet does
  - L{e2e.manifests}: reads the manifests, and lets tests change them
  - L{e2e.prometheus}: runs a real Prometheus
  - L{e2e.pods}: what the tests share
  - L{e2e.clients}: many clients with kept connections, and a balancer
  - C{slow.py}: a slow service, for a container
  - C{api.py}: an API of somebody else, for a container
  - C{burst.py}: a client that sends many requests at once, for a container
  - C{test_*.py}: the tests
"""
