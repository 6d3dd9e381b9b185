"""Two processes on one machine, which talk by gloo over the loopback."""
