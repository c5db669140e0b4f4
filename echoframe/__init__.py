"""Write a conversation once; serve it every way; see what changes."""
