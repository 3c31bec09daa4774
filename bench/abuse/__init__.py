"""What the worst legal input, and plain abuse, does to everybody else."""
