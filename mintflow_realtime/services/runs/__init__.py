"""What engines and viewers do with runs: leases, the list, word back."""
