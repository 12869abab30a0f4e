"""A Ray cluster, where `SAESCOPE_RAY_ADDRESS` names one: the only room that imports ray.

`look` finds out whether it answers and what it has, `crew` has units of jobs done by its processes,
`serve` runs live workers on it as Ray Serve replicas. Nodes see the data folder under the same path, and
have the same saescope.
"""
