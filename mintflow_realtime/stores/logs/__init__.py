"""Log records of a tenant, by flow, run, node and level."""
