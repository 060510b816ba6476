"""The node guard: freezes and kills the pods of its own node, through their cgroups."""
