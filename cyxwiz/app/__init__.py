"""The composition root: the one package that names concrete classes and knows roles.

Start: store, services, loops, doors, then the node. Stop, in reverse: the node finishes or gives up its runs, doors
take nothing new, loops end, the store closes. A loop that dies on its own ends the process with a status that is not 0.
"""
