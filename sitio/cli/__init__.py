"""
The command C{sitio}: L{main<sitio.cli.main>}.

In reading order:

  - C{main}: the group of commands; each is imported when it is called.
  - C{passing}: a command that passes its options on to those of C{twistd sitio}; C{groups}: the
    groups in which its help lists them.
  - C{run} starts a sidecar, C{check} only builds it; C{plugin} is what both use of C{twistd}.
  - C{client}: requests to the admin port of a running sitio; C{control}: C{reload} and C{drain}.
  - C{status}: the state of a running sitio; C{screen} writes it for a terminal, with C{table},
    and C{terminal} knows how wide that is.
  - C{policies}: what is installed; C{completion}: names and files for the shell.
  - C{newpolicy}: makes a project with a policy; C{skeleton}: its files.
  - C{version}.

It talks to a running sitio over the admin port only.
"""
