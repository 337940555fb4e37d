"""What the content of a file says about itself: its format, domain, centre and bad pixels."""
