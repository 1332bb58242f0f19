"""Views: every number between stored bytes and network input; how they are written, drawn and counted."""
