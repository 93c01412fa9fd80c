"""The side that asks: which systems, workloads and goals there are, rounds, environments and reports."""
