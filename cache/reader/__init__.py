"""Reading a cache: samples, views and targets by index, and the feeds made of them."""
