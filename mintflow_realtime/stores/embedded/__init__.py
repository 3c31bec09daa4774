"""The Redis that a machine without one runs: started, adopted, supervised."""
