"""Every message, both directions, as typed frozen structs; the error tree; the envelope. Imports nothing of ours."""
