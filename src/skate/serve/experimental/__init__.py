"""Ready-made request routers, under the names that Ray Serve gives them."""
