"""What all HTML pages have in common: the style sheet, the head with its security policy, and small embedded images."""
