"""The built-in policy; its card is README.md."""
