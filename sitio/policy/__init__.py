"""
How policies are made, ordered and run.

In reading order:

  - C{chain}: runs the policies in order and contains their failures.
  - C{answers}: checks and copies what policies return.
  - C{pending}: results of policies that are still to come.
  - C{functions}: C{onRequest}, C{onResponse} and C{onFinish} make policies of functions.
  - C{loader}: makes the policies that an operator's descriptions name.
  - C{maker}: announces a policy to C{twisted.plugin} without importing it.
"""
