"""Programs that run workloads, one for each kind of system, all behind the protocol of ``drivers.protocol``.

They run in the environments of the systems, so they import nothing but the standard library, that system, and what of
``scripts`` does the same.
"""
