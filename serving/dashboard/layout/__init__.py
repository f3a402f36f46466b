"""What all pages share: the frame, the address, small pieces, the refresh of an open page."""
