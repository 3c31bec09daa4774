"""Who is in which workspace; each entry has a lease."""
