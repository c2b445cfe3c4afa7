"""The wire, declared once: channels, their messages, who says and who hears them."""
