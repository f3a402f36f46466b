"""The process, its HTTP answers and who may see them."""
