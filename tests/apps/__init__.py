"""Applications that install us, and the tests that install the wheel and run them."""
