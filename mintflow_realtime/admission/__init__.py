"""Who may connect, and goes on after a break: the gate, the connected clients, session recovery, takeover."""
