"""The base order of the rows, and the external sort that puts them into it."""
