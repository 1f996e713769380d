package client

// Kill ends a client as kill -9 would end its process, but for what is in the
// middle of a step: that comes to its end.
func Kill(c *Client) { kill(c) }
