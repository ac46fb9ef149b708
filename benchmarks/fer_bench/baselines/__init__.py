"""Other runtimes and other people's packages, measured beside the pipeline.

Each runs in a process of its own, since their dependencies seldom go together with ours or with
each other's, and with no way to the network. What runs in that process (``worker``, ``adapter``
and one module for each baseline) imports nothing but the standard library, numpy and the baseline.
"""
