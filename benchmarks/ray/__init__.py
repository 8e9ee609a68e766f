"""What Ray costs a request, and what more nodes give."""
