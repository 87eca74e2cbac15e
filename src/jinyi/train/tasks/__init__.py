"""What can be trained, one class a module."""
