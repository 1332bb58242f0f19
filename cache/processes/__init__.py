"""The processes of a command: signals that end them, and ranks that notice when one of them is gone."""
