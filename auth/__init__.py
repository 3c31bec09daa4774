"""Who may do what: principal, tokens, tickets, handshake. Pure: what must be remembered is the stores' part."""
