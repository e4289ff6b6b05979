"""
Tests of C{manifests/} and C{docker/} that need no cluster: Kubernetes and OpenShift know each
field, each reference has its target, and sitio accepts the options in them.

C{make e2e} runs the manifests.
"""
