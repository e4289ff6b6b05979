"""
The configuration of a sidecar, as the operator gives it.

In reading order: C{values} parses the text of one option, C{options} holds all
options of C{twistd sitio}.  Nothing here opens a port or makes a sidecar: that is
L{sitio.assembly}'s part.
"""
