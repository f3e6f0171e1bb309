"""Export: a detector becomes one file that is compared with the original before it exists.

The package can be called: `generalad.export(...)` is `verbs.export`.
"""

from generalad.callable_module import make_callable

make_callable(__name__, "generalad.verbs:export")
