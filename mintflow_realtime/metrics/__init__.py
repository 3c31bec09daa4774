"""What is counted, and how it is read: plain integers in each process, one page for all workers of a host.

`series` names everything that is counted. Nothing here imports anything else of ours.
"""
