"""What all HTML pages share: the style sheet, the head with its security policy, and small embedded images."""
