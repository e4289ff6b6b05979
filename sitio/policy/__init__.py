"""
How policies are made, ordered and run.

In reading order:

  - C{chain}: runs the policies in order and contains their failures.
  - C{member}: a policy in a chain.
  - C{answers}: checks and copies what policies return.
  - C{coroutines}: runs coroutines of policies, which may await asyncio; C{noasyncio}: on a
    reactor without it.
  - C{threads}: C{inThread} runs blocking calls in threads.
  - C{pending}: results of policies that are still to come.
  - C{handover}: what happens when policies take the places of others.
  - C{services}: starts and stops policies that are services.
  - C{exchange}: what policies receive, for type checkers.
  - C{labels}: marks of policies on an exchange, for logs.
  - C{sending}: what send policies get.
  - C{functions}: C{onRequest}, C{onResponse}, C{onSend} and C{onFinish} make policies of functions.
  - C{verify}: what is a policy.
  - C{loader}: makes the policies that an operator's descriptions name.
  - C{sources}: where they come from: installed makers, and files.
  - C{descriptions}: a description, parsed.
  - C{makers}: finds the makers of policies: plugins and entry points.
  - C{files}: loads a file with policies, and its neighbours.
  - C{declaration}: the options of a policy, by one declaration; C{options}: one of them.
  - C{kinds}: the types of options; C{located}: paths in them.
  - C{help}: options for people: on a terminal, and in documents.
  - C{maker}: announces a policy to C{twisted.plugin} without importing it.
"""
