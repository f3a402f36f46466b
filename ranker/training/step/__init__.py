"""One compiled step of a stack of towers: forward, loss, gradients, optimizer, averages."""
