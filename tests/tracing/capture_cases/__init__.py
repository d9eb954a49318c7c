"""Cases of graph capture: small programs, each with what a compiled call must do, see `harness`."""
