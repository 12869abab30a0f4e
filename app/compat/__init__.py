"""Other services' interfaces, for clients that speak them."""
